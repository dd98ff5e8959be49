"""What is allowed but likely to disappoint."""

from distrai.algorithms.codecs import CODECS
from distrai.algorithms.spec import AlgorithmSpec


def warnings(spec: AlgorithmSpec, rounds: int) -> list[str]:
    """What a user should know before a run of this many rounds."""
    return [*_outer(spec, rounds), *_state(spec), *_codec(spec), *_schedule(spec, rounds), *_audits(spec)]


def _outer(spec: AlgorithmSpec, rounds: int) -> list[str]:
    found = []
    if spec.outer_momentum > 0.5 and (spec.inner_steps < 20 or rounds < 30):
        found.append(
            f"outer_momentum {spec.outer_momentum:g} multiplies the outer step by up to"
            f" {1 / (1 - spec.outer_momentum):.0f} when successive updates align;"
            f" with inner_steps {spec.inner_steps} and {rounds} rounds"
            ' outer = "sgd", outer_momentum = 0, outer_lr = 1 is likely better'
        )
    if spec.outer == "sign" and spec.outer_lr > 0.1:
        found.append(
            f'outer "sign" moves every parameter by outer_lr a round: {spec.outer_lr:g} is much;'
            " about twice the rate of AdamW is usual"
        )
    return found


def _state(spec: AlgorithmSpec) -> list[str]:
    sparse, stateful = CODECS[spec.codec].sparse, spec.inner_optimiser != "sgd"
    found = []
    if sparse and stateful and spec.inner_state == "reset":
        found.append('inner_state "reset" beside a sparse codec costs much loss; use "kept"')
    if sparse and spec.inner_state == "averaged":
        found.append("averaged moments take 2.03 bytes per parameter, many times a sparse update")
    if not sparse and spec.inner_state == "public":
        found.append('inner_state "public" beside a dense codec costs loss; "averaged" is better there')
    return found


def _codec(spec: AlgorithmSpec) -> list[str]:
    if CODECS[spec.codec].sparse and not spec.error_feedback and spec.start == "global":
        return ["without error_feedback a sparse codec loses for good what it does not send; .95 is usual"]
    return []


def _schedule(spec: AlgorithmSpec, rounds: int) -> list[str]:
    found = []
    if spec.fragments > 1 and spec.start == "global":
        found.append(
            f'with fragments and start "global" a round throws away what it trained in the other'
            f' {spec.fragments - 1} of {spec.fragments} fragments; use start = "replica"'
        )
    if spec.fragments > 1 and rounds % spec.fragments:
        found.append(
            f"{rounds} rounds are no multiple of {spec.fragments} fragments: some are synchronised once less"
        )
    if spec.merge_alpha == 1:
        found.append(
            "merge_alpha 1 leaves every replica alone: their mean is a good model only when a trained model"
            " is tuned on; from scratch it fails"
        )
    if spec.quorum and not spec.staleness:
        found.append(
            "quorum without staleness throws away the work of whoever is later; staleness = 4 lets it count"
        )
    if spec.staleness and spec.inner_state == "averaged":
        found.append("with staleness the averaged moments of a round are those of the few whom it lists")
    if spec.aggregate == "mean" and (spec.pace == "measured" or spec.staleness):
        found.append(
            'aggregate "mean" gives members of unequal work equal weight; "token-weighted-mean" does not'
        )
    return found


def _audits(spec: AlgorithmSpec) -> list[str]:
    why = None
    if spec.start == "replica":
        why = 'start "replica" carries private parameters from round to round'
    elif spec.inner_state == "kept":
        why = 'inner_state "kept" is private'
    return [f"{why}: the inner training of such a run cannot be audited"] if why else []
