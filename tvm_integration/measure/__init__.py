"""Building and running programs: MetaSchedule's builder and runners, on workers that stay warm."""
