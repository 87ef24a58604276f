"""The river pipelines that a policy can name. To add one, add an entry to `CATALOG`.

An entry says how the pipeline is built, how it learns one example, how its learning state becomes
arrays and comes back, and which compiled form scores it; the trainer, the published versions and
the shared tests take the rest from there.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from river.linear_model import LogisticRegression
from river.optim import AdaGrad
from river.optim.losses import Log
from river.preprocessing import StandardScaler

from features.errors import RecordError, nearest_name
from online_models import binned_state, half_spaces, linear_state, naive_bayes
from online_models.binned_learning import BinnedLearning
from online_models.binning import BinLayout, Binner
from online_models.champion import ChampionOf, CompiledChampion
from online_models.compiled import CompiledLinear
from online_models.compiled_binned import CompiledBinned
from online_models.entries import CatalogEntry
from online_models.framing import FloatArray, check_inputs
from online_models.learning import Learning, RiverLearning
from online_models.options import NO_OPTIONS, ModelOptions
from online_models.trees import forest
from online_models.trees.compiled import CompiledTrees

RARE_EVENT_LOG_ODDS = -4.6  # 1 %: what a model that has learned nothing says of anybody
FRAUD_WEIGHT = 10.0  # of one fraud in the weighted regression
STEP_DAMPING = 0.3  # what AdaGrad adds to an input's sum of squared gradients
BIN_RATE = 0.1
BIN_DAMPING = 0.1
BIN_INTERCEPT_RATE = 0.01


def scaled_logistic(inputs: tuple[str, ...]) -> Any:
    """Return StandardScaler | LogisticRegression with AdaGrad, set for fraud below 1 %.

    AdaGrad (Duchi, Hazan and Singer 2011) gives every input a rate of its own, which suits inputs
    that are rarely other than zero. Its rate of 0.3 and the intercept's 0.01 were the best or
    nearly so of seven settings on a week of the Fraud Detection Handbook's data (validation, not
    test) and on a synthetic set. The intercept begins at log-odds of 1 % instead of River's 50 %,
    so that an untrained model does not alert on everything. No class weights: the scores stay
    probabilities.

    STEP_DAMPING keeps an input that was nearly always 0 so far from taking full steps on gradients
    of nearly 0: undamped, 500 examples gave one input of the bank's model 84 log-odds a unit. On
    five simulated banks anything from 0.03 to 0.3 did equally well; of 0.1 and 0.3, the latter was
    the better on April 2018 of the Handbook's data.
    """
    regression = LogisticRegression(
        optimizer=AdaGrad(0.3, eps=STEP_DAMPING),
        intercept_init=RARE_EVENT_LOG_ODDS,
        intercept_lr=0.01,
    )
    return StandardScaler() | regression


def weighted_logistic(inputs: tuple[str, ...]) -> Any:
    """Return the scaled logistic regression with frauds counting `FRAUD_WEIGHT` times.

    Rare frauds move it more, so it follows a new pattern faster. Its log-odds come out too high by
    about the log of that weight: the scores rank, they are no probabilities.
    """
    regression = LogisticRegression(
        optimizer=AdaGrad(0.3, eps=STEP_DAMPING),
        loss=Log(weight_pos=FRAUD_WEIGHT),
        intercept_init=RARE_EVENT_LOG_ODDS,
        intercept_lr=0.01,
    )
    return StandardScaler() | regression


def binned_logistic(inputs: tuple[str, ...], options: ModelOptions = NO_OPTIONS) -> Any:
    """Return Binner | LogisticRegression with AdaGrad: a weight for each bin and cross of bins.

    On July 2018 of the Fraud Detection Handbook's data (validation, not test) a rate of 0.1 was
    better than 0.05 in average precision, and than 0.2 in area under the curve. BIN_DAMPING, beside
    a bin's sum of squared gradients, keeps the first example of a bin from taking a full step: in
    the two weeks after the warm-up the average precision was 0.60 with it and 0.48 without, in July
    0.765 and 0.767. No class weights: the scores stay probabilities.
    """
    layout = BinLayout(inputs, options)
    binner = Binner(
        dict(zip(inputs, layout.bins, strict=True)), options.crosses, options.warm_up_count
    )
    regression = LogisticRegression(
        optimizer=AdaGrad(BIN_RATE, eps=BIN_DAMPING),
        intercept_init=RARE_EVENT_LOG_ODDS,
        intercept_lr=BIN_INTERCEPT_RATE,
    )
    return binner | regression


def binned_kernel(inputs: tuple[str, ...], options: ModelOptions) -> Learning:
    """Return what learns as `binned_logistic` does, a hundred times as fast."""
    regression = binned_logistic(inputs, options).steps["LogisticRegression"]
    rates: FloatArray = np.array(
        [BIN_RATE, regression.optimizer.eps, BIN_INTERCEPT_RATE, regression.clip_gradient]
    )
    return BinnedLearning(BinLayout(inputs, options), RARE_EVENT_LOG_ODDS, rates)


SCALED_LOGISTIC = CatalogEntry(
    name="scaled_logistic",
    when="The default: learns from the first example, cheap, explainable, calibrated.",
    build=scaled_logistic,
    learner=linear_state.learner,
    save=linear_state.save,
    restore=linear_state.restore,
    compiled=CompiledLinear,
)
ADAPTIVE_FOREST = CatalogEntry(
    name="adaptive_forest",
    when="Where signs count together; each tree is replaced when its own errors change.",
    build=forest.adaptive_forest,
    save=forest.save,
    restore=forest.restore,
    compiled=CompiledTrees,
    reader=forest.TreesReader,
    refuse_share=forest.refuse_share,
)
NAIVE_BAYES = CatalogEntry(
    name="naive_bayes",
    when="As a member of a stack: useful after few examples, but far too sure of itself.",
    build=naive_bayes.naive_bayes,
    save=naive_bayes.save,
    restore=naive_bayes.restore,
    compiled=naive_bayes.CompiledBayes,
    is_probability=False,
)
STACKED = ChampionOf({"logistic": SCALED_LOGISTIC, "forest": ADAPTIVE_FOREST, "bayes": NAIVE_BAYES})

CATALOG: dict[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        SCALED_LOGISTIC,
        CatalogEntry(
            name="weighted_logistic",
            when="Where following a new pattern fast matters more than calibrated scores.",
            build=weighted_logistic,
            learner=linear_state.learner,
            save=linear_state.save,
            restore=linear_state.restore,
            compiled=CompiledLinear,
            is_probability=False,
        ),
        ADAPTIVE_FOREST,
        CatalogEntry(
            name="adaptive_tree",
            when="One tree that replaces the branches whose errors grow: cheap, readable.",
            build=forest.adaptive_tree,
            save=forest.save,
            restore=forest.restore,
            compiled=CompiledTrees,
            reader=forest.TreesReader,
            refuse_share=forest.refuse_share,
        ),
        NAIVE_BAYES,
        CatalogEntry(
            name="half_space_trees",
            when="Without labels: how seldom values like these were seen lately.",
            build=half_spaces.half_space_trees,
            save=half_spaces.save,
            restore=half_spaces.restore,
            compiled=half_spaces.CompiledHalfSpaces,
            reader=half_spaces.HalfSpacesReader,
            is_probability=False,
            is_supervised=False,
        ),
        CatalogEntry(
            name="stacked_champion",
            when="The best of several: learns what logistic, forest and naive Bayes are worth.",
            build=STACKED.build,
            save=STACKED.save,
            restore=STACKED.restore,
            compiled=CompiledChampion,
            reader=STACKED.reader,
            refuse_share=STACKED.refuse_share,
        ),
        CatalogEntry(
            name="binned_logistic",
            when="Effects have steps or peaks, or pairs of inputs matter: a weight for each bin.",
            build=binned_logistic,
            learner=binned_state.learner,
            save=binned_state.save,
            restore=binned_state.restore,
            compiled=CompiledBinned,
            missing=math.nan,
            takes_bins=True,
            kernel=binned_kernel,
        ),
    )
}


def find(pipeline: str) -> CatalogEntry:
    """Return the entry of a name; raises RecordError with the nearest name for an unknown one."""
    if pipeline not in CATALOG:
        known = ", ".join(CATALOG)
        nearest = nearest_name(pipeline, CATALOG)
        raise RecordError("$.pipeline", f"one of: {known}", f"`{pipeline}`", nearest)
    return CATALOG[pipeline]


def options_of(pipeline: str, options: ModelOptions) -> ModelOptions:
    """Return the options if the pipeline takes any, none otherwise; raises as `find`."""
    return options if find(pipeline).takes_bins else NO_OPTIONS


def build(pipeline: str, inputs: Sequence[str], options: ModelOptions = NO_OPTIONS) -> Any:
    """Return a new River pipeline.

    Raises RecordError for an unknown name, bad inputs, or options that do not fit.
    """
    entry = find(pipeline)
    names = tuple(inputs)
    check_inputs(names)
    if entry.takes_bins:
        return entry.build(names, options)
    if options != NO_OPTIONS:
        known = ", ".join(name for name, other in CATALOG.items() if other.takes_bins)
        raise RecordError("$.options", f"a pipeline that takes them: {known}", f"`{pipeline}`")
    return entry.build(names)


def refusal(
    pipeline: str, inputs: Sequence[str], options: ModelOptions, fraud_share: float
) -> RecordError | None:
    """Return why a pipeline can't learn fraud of this share, None where it can; raises as `build`.

    A share of 0.0 says that there was no fraud yet: nothing can be told of it.
    """
    if fraud_share <= 0.0:
        return None
    try:
        find(pipeline).refuse_share(build(pipeline, inputs, options), fraud_share)
    except RecordError as found:
        return found
    return None


def learning(pipeline: str, inputs: Sequence[str], options: ModelOptions = NO_OPTIONS) -> Learning:
    """Return a new model that learns, through its kernel or else River; raises as `build`."""
    entry = find(pipeline)
    names = tuple(inputs)
    river = build(pipeline, names, options)
    return entry.kernel(names, options) if entry.kernel else RiverLearning(entry, river, names)
