"""`python3 -m engine`: trains nets of Caffe on PyTorch, with the command line of `caffe`."""
import signal
import sys

# As in Caffe, Ctrl-C ends what is no training, and a start, without a word.
if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from engine import cli  # noqa: E402

sys.exit(cli.main(sys.argv[1:]))
