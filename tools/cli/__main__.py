"""`python3 -m tools.cli`: the command line inside the environment, which `./fer COMMAND` calls."""
import signal
import sys

# While modules are loaded, which takes seconds, nothing is begun: Ctrl-C ends it without a traceback.
if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from tools.cli import main  # noqa: E402

sys.exit(main.main(sys.argv[1:]))
