"""Caffe's log lines, as Debian's Caffe 1.0 writes them."""
from tools.training import caffe_log
from tools.training.caffe_log import Loss, Output, Snapshot

LINES = """\
I1123 14:52:56.928272 15653 solver.cpp:239] Iteration 60 (7.9 iter/s, 2.527s/20 iters), loss = 1.72
I1123 14:52:56.928272 15653 solver.cpp:258]     Train net output #1: gabor_loss = 671.214 (* 1e-06 = 0.000671214 loss)
I1123 14:52:56.928296 15653 sgd_solver.cpp:112] Iteration 60, lr = 0.005
I1123 14:53:02.121795 15653 solver.cpp:327] Iteration 100, loss = nan
I1123 14:53:02.122249 15653 solver.cpp:347] Iteration 100, Testing net (#0)
I1123 14:53:02.618752 15653 solver.cpp:414]     Test net output #0: accuracy = 0.341429
I1123 14:53:02.618752 15653 solver.cpp:464] Snapshotting to binary proto file runs/a b/snapshot_iter_100.caffemodel
I1123 14:53:02.618752 15653 sgd_solver.cpp:284] Snapshotting solver state to binary proto file s_iter_100.solverstate
I1123 14:53:02.618752 15653 net.cpp:678] Ignoring source layer gabor_loss
""".splitlines()


def test_events():
    parser = caffe_log.Parser()
    events = [parser.parse(line) for line in LINES]
    assert events[0] == Loss(60, 1.72)
    assert events[1] == Output("train", 60, "gabor_loss", 671.214)
    assert events[2] is None and events[4] is None and events[8] is None
    assert events[3].iteration == 100 and events[3].value != events[3].value
    assert events[5] == Output("val", 100, "accuracy", 0.341429)
    assert events[6] == Snapshot("runs/a b/snapshot_iter_100.caffemodel")
    assert events[7] == Snapshot("s_iter_100.solverstate")


def test_repeated_iterations_count_once(tmp_path):
    path = tmp_path / "caffe.log"
    path.write_text("\n".join(LINES[:3] + [LINES[0].replace("1.72", "1.75"), LINES[0].replace("60", "40")]))
    assert caffe_log.curves(str(path)) == {"loss": [(40, 1.72), (60, 1.75)], "train gabor_loss": [(60, 671.214)]}
