"""bss_eval against museval, on stored cases, on built signals and on real songs."""

import math
import warnings

import numpy as np
import pytest
import soundfile
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sepkit.datasets.demo import make_song
from sepkit.metrics import bss_eval, framewise_sdr
from sepkit.metrics.bss_eval import decomposition, projections

METRICS = ("SDR", "ISR", "SIR", "SAR")
GOLDENS = (
    "mono_2src_1s",
    "mono_4src_win.25_hop.1",
    "stereo_2src_one_frame",
    "stereo_2src_quiet",
    "stereo_2src_silent_frames",
    "stereo_2src_v3",
    "stereo_3src_win2s_hop1.5s",
    "stereo_4src_1s",
)
# Warnings about the built signals are tested one by one.
ignore_advice = pytest.mark.filterwarnings("ignore:the references leave", "ignore:estimate . looks")


@pytest.fixture(scope="module")
def museval():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import museval
        except (ImportError, RuntimeError) as error:  # RuntimeError: no ffmpeg
            pytest.skip(f"museval cannot be imported: {error}")
    return museval.metrics


def museval_scores(museval, estimate, target, **options):
    """Score (S, C, T) arrays with museval: SDR, ISR, SIR, SAR (S, frames), permutation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return museval.bss_eval(target.swapaxes(1, 2), estimate.swapaxes(1, 2), **options)


def songs(n_sources=2, n_channels=2, length=6000, seed=0):
    """Make coloured noises as references, and estimates with filtering, interference and artifacts."""
    rng = np.random.default_rng(seed)
    colours = rng.standard_normal((n_sources, 12)) * 0.7 ** np.arange(12)
    target = rng.standard_normal((n_sources, n_channels, length))
    for rows, colour in zip(target, colours, strict=True):
        rows[:] = [0.1 * np.convolve(row, colour)[:length] for row in rows]
    smeared = 0.9 * target + 0.2 * np.roll(target, 3, axis=-1)
    leaked = 0.1 * target.sum(0) + 0.05 * np.roll(target, 1, axis=0)
    return smeared + leaked + 0.01 * rng.standard_normal(target.shape), target


def assert_musevals(scores, expected, tolerance=1e-6):
    for name, score, value in zip(METRICS, scores, expected, strict=False):
        np.testing.assert_allclose(score.numpy(), value, atol=tolerance, rtol=0, equal_nan=True, err_msg=name)
    np.testing.assert_array_equal(scores.permutation.numpy(), expected[4])


@pytest.mark.parametrize("name", GOLDENS)
def test_stored_values_are_met(reference_root, name):
    case = np.load(reference_root / "goldens" / "bss" / f"{name}.npz")
    target, estimate = (case[key].swapaxes(1, 2) / 32768.0 for key in ("refs", "ests"))
    scores = bss_eval(
        estimate,
        target,
        float(case["window"]),
        float(case["hop"]),
        filters=int(case["filters_len"]),
        framewise_filters=bool(case["framewise_filters"]),
        permute=bool(case["compute_permutation"]),
        silent="museval",
    )
    noise = case["museval_ulp_noise"]  # how far museval moves when its input moves by one ulp
    for metric, score, ulp_noise in zip(METRICS, scores, noise, strict=False):
        tolerance = max(1e-6, 1000 * ulp_noise)
        np.testing.assert_allclose(score.numpy(), case[metric], atol=tolerance, rtol=0, equal_nan=True)
    np.testing.assert_array_equal(scores.permutation.numpy(), case["perm"])


@ignore_advice
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        pytest.param((2, 2, 6000), {}, id="stereo"),
        pytest.param((3, 1, 6000), {}, id="mono"),
        pytest.param((2, 3, 6000), {}, id="three channels"),
        pytest.param((1, 2, 6000), {}, id="one source"),
        pytest.param((4, 2, 6000), {}, id="four sources"),
        pytest.param((2, 2, 900), {}, id="window longer than the signal"),
        pytest.param((2, 2, 1000), {}, id="window as long as the signal"),
        pytest.param((2, 2, 1001), {}, id="window one sample shorter"),
        pytest.param((2, 2, 6500), {}, id="a rest that fills no frame"),
        pytest.param((2, 2, 6030), {}, id="a rest shorter than the filters"),
        pytest.param((2, 2, 6000), {"hop": 400}, id="overlap"),
        pytest.param((2, 2, 6000), {"hop": 1700}, id="gaps"),
        pytest.param((2, 2, 6000), {"window": 1000.5, "hop": 700.3}, id="fractions"),
        pytest.param((2, 2, 6000), {"window": 60, "hop": 60}, id="frames shorter than the filters"),
        pytest.param((2, 2, 6000), {"window": math.inf, "hop": math.inf}, id="infinite window"),
        pytest.param((2, 2, 6000), {"filters": 1}, id="one tap"),
        pytest.param((2, 1, 6000), {"filters": 512}, id="512 taps"),
        pytest.param((2, 2, 6000), {"framewise_filters": True}, id="v3"),
        pytest.param((1, 2, 6000), {"framewise_filters": True}, id="v3, one source"),
        pytest.param((3, 1, 20000), {"framewise_filters": True}, id="v3, more frames than go together"),
        pytest.param((3, 2, 6000), {"permute": True}, id="permutation"),
        pytest.param((3, 2, 6000), {"permute": True, "framewise_filters": True}, id="v3, permutation"),
        pytest.param((1, 1, 6000), {"permute": True}, id="permutation of one source"),
    ],
)
def test_built_signals_score_as_in_museval(museval, shape, options):
    estimate, target = songs(*shape)
    estimate = np.roll(estimate, options.get("permute", 0), axis=0)
    options = {"window": 1000, "hop": 1000, "filters": 64} | options
    names = {"filters": "filters_len", "permute": "compute_permutation"}
    expected = museval_scores(museval, estimate, target, **{names.get(k, k): v for k, v in options.items()})
    assert_musevals(bss_eval(estimate, target, silent="museval", **options), expected)


@ignore_advice
@pytest.mark.parametrize("framewise", [False, True], ids=["v4", "v3"])
@pytest.mark.parametrize("permute", [False, True])
@pytest.mark.parametrize("kind", ["reference", "estimate"])
def test_silent_frames_score_as_in_museval(museval, framewise, permute, kind):
    estimate, target = songs()
    (target if kind == "reference" else estimate)[1, :, 2000:3500] = 0
    estimate = estimate[::-1].copy() if permute else estimate
    expected = museval_scores(
        museval,
        estimate,
        target,
        window=1000,
        hop=1000,
        filters_len=64,
        framewise_filters=framewise,
        compute_permutation=permute,
    )
    scores = bss_eval(estimate, target, 1000, 1000, 64, framewise_filters=framewise, permute=permute, silent="museval")
    assert scores.sir.isnan().any(0).tolist() == [False, False, True, False, False, False]
    assert_musevals(scores, expected)


@pytest.mark.filterwarnings("ignore:the references leave")
def test_permutation_ignores_silent_frames_unless_told_to_be_museval():
    estimate, target = songs()
    target[1, :, 2000:3500] = 0
    order = {
        silent: bss_eval(estimate[::-1].copy(), target, 1000, 1000, 64, permute=True, silent=silent).permutation
        for silent in ("nan", "museval")
    }
    assert order["nan"].flatten().tolist() == [1, 0]
    assert order["museval"].flatten().tolist() == [0, 1]


@pytest.mark.parametrize("n_silent", [1, 2, 3])
def test_silent_references_are_left_out(museval, n_silent):
    estimate, target = songs(n_sources=4)
    present = [1, 3, 0][: 4 - n_silent]
    silent = [i for i in range(4) if i not in present]
    target[silent] = 0
    scores = bss_eval(estimate, target, 1000, 1000, 64)
    expected = museval_scores(museval, estimate[present], target[present], window=1000, hop=1000, filters_len=64)
    for score, value in zip(scores, expected[:4], strict=False):
        assert score[silent].isnan().all()
        np.testing.assert_allclose(score[present].numpy(), value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("framewise", [False, True], ids=["v4", "v3"])
def test_all_is_nan_where_all_references_are_silent(framewise):
    estimate, target = songs()
    scores = bss_eval(estimate, 0 * target, 1000, 1000, 64, framewise_filters=framewise)
    assert all(score.isnan().all() and score.shape == (2, 6) for score in scores[:4])
    assert scores.permutation.shape == (2, 6 if framewise else 1)


def test_a_reference_in_antiphase_counts_as_silent(museval):
    estimate, target = songs(n_sources=3)
    target[1, 1] = -target[1, 0]
    with pytest.raises(ValueError, match="non-silent"):
        museval_scores(museval, estimate, target, window=1000, hop=1000, filters_len=64)
    assert bss_eval(estimate, target, 1000, 1000, 64).sdr.isnan().all(1).tolist() == [False, True, False]


def test_an_estimate_that_is_silent_throughout_costs_only_its_own_scores():
    estimate, target = songs(n_sources=3)
    estimate[1] = 0
    scores = bss_eval(estimate, target, 1000, 1000, 64)
    assert all(score[[0, 2]].isfinite().all() for score in scores[:4])
    torch.testing.assert_close(scores.isr[1], torch.zeros(6, dtype=torch.float64))
    assert scores.sdr[1].tolist() == [0.0] * 6
    assert scores.sir[1].isnan().all()
    assert scores.sar[1].isnan().all()


@pytest.mark.parametrize("kind", ["reference", "estimate"])
@pytest.mark.parametrize("silent", ["museval", "error"])
def test_silence_throughout_is_an_error_where_asked(kind, silent):
    estimate, target = songs()
    (target if kind == "reference" else estimate)[0] = 0
    with pytest.raises(ValueError, match=f"every {kind} must sound somewhere with silent='{silent}'"):
        bss_eval(estimate, target, 1000, 1000, 64, silent=silent)


def test_a_silent_frame_is_an_error_where_asked():
    estimate, target = songs()
    target[1, :, 2000:3500] = 0
    with pytest.raises(ValueError, match="got silence in frame 2"):
        bss_eval(estimate, target, 1000, 1000, 64, silent="error")


def test_one_source_has_infinite_sir():
    estimate, target = songs(n_sources=1)
    assert (bss_eval(estimate, target, 1000, 1000, 64).sir == math.inf).all()


@pytest.mark.parametrize("framewise", [False, True], ids=["v4", "v3"])
def test_mono_files_in_stereo_score_as_in_museval_without_a_warning(museval, framewise):
    estimate, target = songs()
    target[:, 1] = target[:, 0]
    options = {"window": 3000, "hop": 3000, "framewise_filters": framewise}
    expected = museval_scores(museval, estimate, target, filters_len=64, **options)
    assert_musevals(bss_eval(estimate, target, filters=64, **options), expected)


def test_a_channel_that_is_silent_scores_as_in_museval_without_a_warning(museval):
    estimate, target = songs()
    target[0, 1] = 0
    expected = museval_scores(museval, estimate, target, window=1000, hop=1000, filters_len=64)
    assert_musevals(bss_eval(estimate, target, 1000, 1000, 64), expected)


def test_identical_references_score_as_in_museval_but_for_sir(museval):
    estimate, target = songs(n_sources=3)
    target[1] = 0.5 * target[0]
    expected = museval_scores(museval, estimate, target, window=1000, hop=1000, filters_len=64)
    with pytest.warns(UserWarning, match="copies of each other, so that rounding decides ISR, SIR and SAR"):
        scores = bss_eval(estimate, target, 1000, 1000, 64)
    for score, value in ((scores.sdr, expected[0]), (scores.isr, expected[1]), (scores.sar, expected[3])):
        np.testing.assert_allclose(score.numpy(), value, atol=1e-6, rtol=0)
    np.testing.assert_allclose(scores.sir[2].numpy(), expected[2][2], atol=1e-6, rtol=0)


def test_an_exactly_singular_system_is_solved_by_least_squares():
    # Two references with one and the same impulse of power 4, to which museval's ridge adds nothing; with numpy
    # 2.4 and later museval itself fails here. Least squares shares the estimate equally.
    target = np.zeros((2, 1, 400))
    target[:, 0, 0] = 2.0
    target[:, 0, 399] = 1e-9
    estimate = np.random.default_rng(0).standard_normal(target.shape)
    with pytest.warns(UserWarning, match="copies of each other"):
        scores = bss_eval(estimate, target, 1000, 1000, 4)
    taps = estimate[:, 0, :4] / 2
    own = (taps**2).sum(1) * 4
    np.testing.assert_allclose(scores.isr[:, 0], 10 * np.log10(4 / (own - 4 * taps[:, 0] * 2 + 4)), atol=1e-6)


@pytest.mark.filterwarnings("ignore:the references leave")
def test_an_empty_band_leaves_sdr_as_in_museval(museval):
    estimate, target = songs()
    spectra = np.fft.rfft(target)
    spectra[..., 2000:] = 0
    target = np.fft.irfft(spectra, 6000)
    expected = museval_scores(museval, estimate, target, window=1000, hop=1000, filters_len=64)
    scores = bss_eval(estimate, target, 1000, 1000, 64)
    np.testing.assert_allclose(scores.sdr.numpy(), expected[0], atol=1e-9, rtol=0)
    assert all(score.isfinite().all() for score in scores[:4])


def test_an_empty_band_is_warned_of_and_16_bits_fill_it():
    estimate, target = songs(length=20000)
    spectra = np.fft.rfft(target)
    spectra[..., 7000:] = 0
    target = np.fft.irfft(spectra, 20000)
    with pytest.warns(UserWarning, match="the references leave a band empty"):
        bss_eval(estimate, target, 1000, 1000, 128)
    bss_eval(estimate, np.round(target * 32768) / 32768, 1000, 1000, 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda wave: np.roll(wave, 40, axis=-1), "estimate 1 looks delayed by 40 samples"),
        (lambda wave: np.roll(wave, -700, axis=-1), "estimate 1 looks delayed by -700 samples"),
        (lambda wave: -wave, "estimate 1 looks inverted"),
        (lambda wave: 0.01 * wave, "estimate 1 looks scaled by 0.01"),
    ],
)
def test_an_estimate_out_of_place_is_warned_of(change, message):
    estimate, target = songs()
    estimate[1] = change(target[1] + 0.001 * estimate[1])
    with pytest.warns(UserWarning, match=f"^{message}: align"):
        bss_eval(estimate, target, 1000, 1000, 64)


def test_a_warning_calls_estimates_by_name_or_by_number_where_another_is_silent():
    estimate, target = songs(n_sources=3)
    target[0] = 0
    estimate[2] = -target[2]
    with pytest.warns(UserWarning, match="^estimate 2 looks inverted: align"):
        bss_eval(estimate, target, 1000, 1000, 64)
    with pytest.warns(UserWarning, match="^estimate of bass looks inverted: align"):
        bss_eval(estimate, target, 1000, 1000, 64, names=("vocals", "drums", "bass"))


def test_perfect_estimates_have_infinite_sdr_and_very_high_scores():
    _, target = songs()
    scores = bss_eval(target, target, 1000, 1000, 64)
    assert (scores.sdr == math.inf).all()
    assert all((score > 150).all() for score in scores[1:4])


@pytest.mark.parametrize("level", [1e-3, 1e-6])
def test_very_good_estimates_score_as_in_museval(museval, level):
    _, target = songs()
    estimate = target + level * np.random.default_rng(1).standard_normal(target.shape)
    expected = museval_scores(museval, estimate, target, window=1000, hop=1000, filters_len=64)
    assert_musevals(bss_eval(estimate, target, 1000, 1000, 64), expected)


def test_filtering_gives_what_correlations_give(monkeypatch):
    estimate, target = songs(n_sources=3, length=6500)
    expected = bss_eval(estimate, target, 1000, 1000, 64)
    monkeypatch.setattr(projections, "_VISIBLE", 0.0)
    monkeypatch.setattr(projections, "_BLOCKS", 3)
    for score, value in zip(bss_eval(estimate, target, 1000, 1000, 64), expected, strict=True):
        torch.testing.assert_close(score, value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("permute", [False, True])
def test_reading_twice_gives_what_keeping_gives(monkeypatch, permute):
    estimate, target = songs(n_sources=3, length=15500)
    expected = bss_eval(estimate, target, 1000, 1000, 64, permute=permute)
    monkeypatch.setattr(decomposition, "_KEPT_BYTES", 0)
    for score, value in zip(bss_eval(estimate, target, 1000, 1000, 64, permute=permute), expected, strict=True):
        torch.testing.assert_close(score, value, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_that_are_not_asked_for_are_nan(name):
    estimate, target = songs()
    everything = bss_eval(estimate, target, 1000, 1000, 64)
    one = bss_eval(estimate, target, 1000, 1000, 64, metrics=[name])
    for metric, score, value in zip(METRICS, one, everything, strict=False):
        expected = value if metric == name else torch.full_like(value, torch.nan)
        torch.testing.assert_close(score, expected, equal_nan=True)


def test_sdr_alone_asks_for_no_filters():
    class Operations(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = set()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    target, estimate = songs()
    found = {}
    for metrics in (("SDR",), METRICS):
        with Operations() as operations:
            bss_eval(estimate, target, 2000, 2000, 32, metrics=metrics)
        found[metrics] = {name for name in operations.names if "fft" in name or "linalg" in name}
    assert "linalg_cholesky_ex" in found[METRICS]  # with which filters are solved for
    assert not found["SDR",]


def test_sdr_alone_is_the_framewise_sdr():
    estimate, target = (torch.from_numpy(waveform) for waveform in songs())
    target[1, :, 1000:2000] = 0
    sdr = bss_eval(estimate, target, 1000, 1000, metrics=("SDR",)).sdr
    torch.testing.assert_close(sdr, framewise_sdr(estimate, target, 1000, 1000), equal_nan=True, atol=0, rtol=0)


def test_permutation_alone_orders_sdr():
    estimate, target = songs()
    swapped = bss_eval(estimate[::-1].copy(), target, 1000, 1000, 64, permute=True, metrics=("SDR",))
    torch.testing.assert_close(swapped.sdr, bss_eval(estimate, target, 1000, 1000, metrics=("SDR",)).sdr)


@pytest.mark.parametrize("kind", ["float32", "int16", "tensor"])
def test_kinds_of_input_are_scored_in_double(kind):
    estimate, target = (np.round(1000 * waveform) for waveform in songs())
    expected = bss_eval(estimate, target, 1000, 1000, 64)
    as_kind = torch.from_numpy if kind == "tensor" else np.dtype(kind).type
    scores = bss_eval(as_kind(estimate), as_kind(target), 1000, 1000, 64)
    assert scores.sdr.dtype == torch.float64
    for score, value in zip(scores, expected, strict=True):
        torch.testing.assert_close(score, value, atol=1e-9, rtol=0)


def test_the_number_of_threads_is_left_as_it_was():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    bss_eval(*songs(), 1000, 1000, 64)
    after = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    assert after == 2


@pytest.mark.cuda
@pytest.mark.parametrize("framewise", [False, True], ids=["v4", "v3"])
def test_cuda_gives_what_the_cpu_gives(framewise):
    estimate, target = (torch.from_numpy(waveform) for waveform in songs(n_sources=3))
    expected = bss_eval(estimate, target, 1000, 1000, 64, framewise)
    for score, value in zip(bss_eval(estimate.cuda(), target.cuda(), 1000, 1000, 64, framewise), expected, strict=True):
        torch.testing.assert_close(score, value, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filters": 0}, "filters must be >= 1 taps, got 0"),
        ({"metrics": ("SDR", "PESQ")}, "metrics must be some of SDR, ISR, SIR, SAR, got"),
        ({"metrics": ()}, "metrics must be some of SDR, ISR, SIR, SAR, got"),
        ({"names": ["vocals"]}, "names must be one for each of the 2 sources, got 1"),
        ({"silent": "skip"}, "silent must be one of nan, museval, error, got 'skip'"),
        ({"window": 0}, "window and hop must be > 0"),
        ({"hop": math.inf}, "hop must be finite where window is shorter"),
        ({"target": np.ones((2, 2, 5999))}, r"must both be \(S, C, T\), got \(2, 2, 6000\) and \(2, 2, 5999\)"),
        ({"estimate": np.ones((2, 6000)), "target": np.ones((2, 6000))}, r"must both be \(S, C, T\)"),
        ({"estimate": np.ones((0, 2, 6)), "target": np.ones((0, 2, 6))}, "at least one sample"),
        ({"estimate": np.full((2, 2, 6000), np.nan)}, "must be finite"),
        ({"estimate": np.full((2, 2, 6000), np.nan), "framewise_filters": True}, "must be finite"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    estimate, target = songs()
    with pytest.raises(ValueError, match=message):
        bss_eval(**({"estimate": estimate, "target": target, "window": 1000, "hop": 1000} | change))


def test_samples_behind_the_last_frame_must_be_finite_too():
    estimate, target = songs(length=6500)
    target[0, 0, -1] = np.inf
    with pytest.raises(ValueError, match="must be finite"):
        bss_eval(estimate, target, 1000, 1000, 64)


def assert_as_close_as_museval_to_itself(museval, target, filters=512, **options):
    """Score oracle estimates; museval's own change when its references move by one ulp sets the tolerance."""
    estimate = oracle_estimates(target)
    scores = bss_eval(estimate, target, filters=filters, silent="museval", **options)
    rng = np.random.default_rng(0)
    moved = np.nextafter(target, np.where(rng.random(target.shape) < 0.5, -np.inf, np.inf))
    options = {"window": 44100, "hop": 44100, "filters_len": filters} | options
    expected = museval_scores(museval, estimate, target, **options)
    repeated = museval_scores(museval, estimate, moved, **options)
    for score, value, again in zip(scores, expected[:4], repeated[:4], strict=False):
        score, tolerance = score.numpy(), np.maximum(1e-6, 1000 * np.abs(again - value))
        assert np.array_equal(np.isnan(score), np.isnan(value))
        assert not (np.abs(score - value) > tolerance).any()


@pytest.mark.parametrize("framewise", [False, True], ids=["v4", "v3"])
@pytest.mark.parametrize("seed", [0, 1])
def test_built_in_songs_score_as_in_museval(museval, seed, framewise):
    stems = np.stack(list(make_song(seed, 3.0, 16000).values())).astype(np.float64)
    target = np.round(stems * 32768) / 32768
    target = target[np.abs(target.sum(1)).max(-1) > 0]
    options = {"window": 16000, "hop": 16000, "framewise_filters": framewise}
    assert_as_close_as_museval_to_itself(museval, target, filters=96, **options)


REAL_SONGS = ("sek_caesium", "sek_francium", "sek_hydrogen", "sek_lithium_a", "sek_lithium_b")


@pytest.mark.parametrize("song", REAL_SONGS)
@pytest.mark.parametrize(
    "part", [slice(12 * 44100, 15 * 44100), pytest.param(slice(None), marks=pytest.mark.slow)], ids=["3 s", "whole"]
)
def test_real_songs_score_as_in_museval(reference_root, museval, song, part):
    folder, stems = reference_root / "audio" / "tracks" / song, ("vocals", "drums", "bass", "other")
    target = np.stack([soundfile.read(folder / f"{stem}.flac")[0].T[:, part] for stem in stems])
    assert_as_close_as_museval_to_itself(museval, target[np.abs(target).max((1, 2)) > 0])


def oracle_estimates(target):
    """Mask the mixture with each stem's share of the magnitude, and round to 16 bits as a file would be."""
    window = torch.hann_window(2048, dtype=torch.float64)
    stems = torch.from_numpy(target).flatten(0, 1)
    spectra = torch.stft(stems, 2048, 512, window=window, return_complex=True).unflatten(0, target.shape[:2])
    magnitude = spectra.abs() + 1e-6
    estimates = spectra.sum(0) * magnitude / magnitude.sum(0)
    waveforms = torch.istft(estimates.flatten(0, 1), 2048, 512, window=window, length=target.shape[-1])
    return np.round(waveforms.view(target.shape).numpy() * 32768) / 32768
