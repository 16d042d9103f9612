"""``python -m tvm_integration.cli``: the command line where its script is not on the path."""

from tvm_integration.cli.app import main

if __name__ == "__main__":
    main()
