import numpy as np
import pytest

from models.gate import Comparison, GateConfig


def compared(challenger: np.ndarray, champion: np.ndarray, **config: float) -> Comparison:
    comparison = Comparison(GateConfig(**config))
    comparison.add(challenger, champion)
    return comparison


def test_too_few_events_decide_nothing() -> None:
    comparison = compared(np.zeros(99), np.ones(99), events=100)
    assert comparison.verdict == "open"
    comparison.add(np.zeros(1), np.ones(1))
    assert comparison.verdict == "worse"


def test_differences_and_their_error_are_those_of_numpy() -> None:
    random = np.random.default_rng(0)
    one, other = random.random(300), random.random(300)
    comparison = Comparison(GateConfig())
    for part in (slice(0, 10), slice(10, 300)):
        comparison.add(one[part], other[part])
    assert comparison.difference == pytest.approx((one - other).mean())
    assert comparison.error == pytest.approx((one - other).std(ddof=1) / np.sqrt(300))
    assert comparison.champion == pytest.approx(other.mean())


def test_equal_releases_pass_even_where_nobody_gains_anything() -> None:
    assert compared(np.zeros(600), np.zeros(600)).verdict == "passed"
    gains = np.random.default_rng(0).random(600)
    assert compared(gains, gains).verdict == "passed"


def test_noise_passes_mostly_and_a_real_loss_does_not() -> None:
    random = np.random.default_rng(0)
    refused = []
    for loss in (0.0, 0.05):
        champion = random.random((400, 512))
        challenger = random.random((400, 512)) - loss
        refused.append(np.mean([compared(*pair).verdict == "worse" for pair in zip(challenger, champion, strict=True)]))
    assert refused[0] < 0.1 < 0.8 < refused[1]


def test_a_large_loss_is_one_however_wide_the_error() -> None:
    champion, challenger = np.zeros(512), np.zeros(512)
    champion[:3] = 1.0
    challenger[:2] = 1.0
    comparison = compared(challenger, champion, z=5.0)
    assert comparison.difference > -5 * comparison.error
    assert comparison.verdict == "worse"


@pytest.mark.parametrize("gains", [np.array([0.5, np.nan]), np.zeros(3)])
def test_what_cannot_be_compared_is_an_error(gains: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        Comparison(GateConfig()).add(gains, np.zeros(2))


def test_a_restored_comparison_goes_on() -> None:
    random = np.random.default_rng(0)
    whole, first = Comparison(GateConfig()), Comparison(GateConfig())
    parts = [(random.random(400), random.random(400)) for _ in range(2)]
    for part in parts:
        whole.add(*part)
    first.add(*parts[0])
    second = Comparison.restored(GateConfig(), first.state())
    second.add(*parts[1])
    assert (second.difference, second.error, second.verdict) == (whole.difference, whole.error, whole.verdict)


@pytest.mark.parametrize("field", [{"events": 1}, {"z": -1.0}, {"tolerance": float("nan")}])
def test_a_config_that_makes_no_sense_names_the_field(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        GateConfig(**field)  # type: ignore[arg-type]
