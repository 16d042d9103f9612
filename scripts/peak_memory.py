"""The largest memory of a process and of all it started."""

import threading


class PeakMemory:
    """Proportional memory of this process and all it started, sampled twice a second.

    A context manager; `peak_bytes` is the largest sum until it ends.
    """

    def __enter__(self) -> "PeakMemory":
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                except psutil.Error:
                    continue  # it ended meanwhile
                total += memory.pss
            self.peak_bytes = max(self.peak_bytes, total)
