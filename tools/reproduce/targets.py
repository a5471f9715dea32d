"""The papers' figures that `./fer reproduce` draws: what each one takes, and which function draws it.

This is the one list of them. It knows names alone, so that the command line can read it without Caffe; the functions
are those of `tools.reproduce.figures`.
"""
import functools
from collections.abc import Sequence
from typing import NamedTuple

from published.values import Figure

TEN_SEEDS = tuple(range(1, 11))


class Use(NamedTuple):
    """What a figure takes of one experiment, which is trained for it. measure, split: as a printed figure has them
    ("every_snapshot": all snapshots on both parts); seeds: to train with, one after the other; data, column: of
    handcrafted features, which have no experiment."""

    experiment: str
    measure: str = "accuracy"
    split: str = "test"
    seeds: tuple[int, ...] = ()
    data: str = ""
    column: str = ""


class Target(NamedTuple):
    """title: in the paper's words; draw: the function's name in `tools.reproduce.figures`."""

    title: str
    uses: Sequence[Use]
    draw: str


def _of(paper: str, names: str, **more) -> list[Use]:
    return [Use(f"{paper}/{name}", **more) for name in names.split()]


# III-B: the pair of Fig. 8 to 11.
_TOY = "fer2013-toy-norm fer2013-toy-center-norm-gabor"
_GABOR_SVM = [Use("", "svm", data="fer2013", column="GABOR")]
_VARIANTS = "sfew-1b-n1 sfew-2b-n1 sfew-1b-nm sfew-2b-nm"

TARGETS: dict[str, Target] = {
    "xie2019a-fig8": Target("Gabor filtered images, and feature maps learned with the softmax and the feature loss",
                            _of("xie2019a", _TOY) + _GABOR_SVM, "feature_maps"),
    "xie2019a-fig9": Target("Faces that are right with the feature loss, and wrong with GABOR and with softmax",
                            _of("xie2019a", _TOY) + _GABOR_SVM, "faces_gained"),
    "xie2019a-fig10": Target("Heat maps of the average feature maps with and without the feature loss",
                             _of("xie2019a", _TOY) + _GABOR_SVM, "heat_maps"),
    "xie2019a-fig11": Target("Means and variances of ten runs with the softmax and the feature loss",
                             _of("xie2019a", _TOY, seeds=TEN_SEEDS), "repetitions"),
    "xie2019a-fig12": Target("Loss weights of the alternative loss, fold by fold, on Oulu-CASIA",
                             _of("xie2019a", "oulu_casia-alaw"), "loss_weights"),
    "xie2019a-fig13": Target("Confusion matrices of the alternative loss on the four databases",
                             _of("xie2019a", "fer2013-alaw oulu_casia-alaw ckplus-alaw mmi-alaw"),
                             "confusion_matrices"),
    "xie2019b-fig7": Target("L2-norm regularization against L2 sparseness: the importance of parts of the face",
                            _of("xie2019b", "mmi-one_map-norm mmi-one_map-l2", measure="respond_ratio"),
                            "respond_ratios"),
    "xie2019b-fig8": Target("Average ROC curves and their AUC", _of("xie2019b", "fer2013-softmax fer2013-l2"),
                            "roc_curves"),
    "xie2019b-fig9": Target("Validation and test accuracies of L2-norm regularization and L2 sparseness",
                            _of("xie2019b", "fer2013-norm-2 fer2013-norm-0.5 fer2013-norm-learned fer2013-l2",
                                measure="every_snapshot"), "accuracy_of_snapshots"),
    "liu2017-fig5": Target("Training loss of the variants on SFEW", _of("liu2017", _VARIANTS, split="val"),
                           "training_loss"),
    "liu2017-fig6": Target("Validation accuracy of the variants on SFEW", _of("liu2017", _VARIANTS, split="val"),
                           "validation_accuracy"),
    "farzaneh2021-fig3": Target("Right and wrong decisions of DACL on RAF-DB and AffectNet",
                                _of("farzaneh2021", "raf_db-dacl affectnet-dacl"), "samples"),
    "farzaneh2021-fig4": Target("Confusion matrices on RAF-DB and AffectNet", _of(
        "farzaneh2021", "raf_db-softmax raf_db-center raf_db-dacl affectnet-softmax affectnet-center affectnet-dacl"),
        "confusion_matrices"),
    "farzaneh2021-fig5": Target("Attention weights of five samples", _of("farzaneh2021", "raf_db-dacl"), "attention"),
    "wu2023-fig4": Target("Confusion matrices of SPNDL on CK+, Oulu-CASIA and RAF-DB", _of(
        "wu2023", "ckplus-spndl oulu_casia-spndl raf_db-spndl-without-neutral"), "confusion_matrices"),
    "wu2023-fig5": Target("Accuracy after each pace, with and without the neutral face, on Oulu-CASIA", _of(
        "wu2023", "oulu_casia-spl oulu_casia-spndl oulu_casia-baseline oulu_casia-ndf"), "accuracy_per_pace"),
    "wu2023-fig6": Target("Training loss with and without self-paced learning on RAF-DB", _of(
        "wu2023", "raf_db-spndl-without-neutral raf_db-without-neutral"), "loss_with_paces"),
    "wu2023-fig7": Target("Features of fear and disgust at two paces on Oulu-CASIA", _of("wu2023", "oulu_casia-spndl"),
                          "distribution"),
    "wu2023-fig8": Target("Training samples that the paces leave out on RAF-DB",
                          _of("wu2023", "raf_db-spndl-without-neutral"), "excluded"),
}


@functools.cache
def cells(name: str) -> tuple[tuple[Figure, tuple[int, ...]], ...]:
    """What the planner is asked for, as it is for a table's cells, with the seeds: printed figures but for the
    value."""
    from common import experiment
    return tuple((Figure._make([""] * len(Figure._fields))._replace(
        table=name, row=use.experiment or use.column, column=use.column, system="own", kind="rate",
        data=use.data or experiment.load(use.experiment).data, split=use.split, measure=use.measure,
        experiment=use.experiment), use.seeds) for use in TARGETS[name].uses)
