"""Whatever a public function is handed, it gives the right result or refuses in one sentence of its own.

`CASES` holds a right call for each public function; each argument is then replaced by what users hand in by mistake.
A sentence is of its own where the package raised it: no library's error shows through.
"""

import io
import linecache
import math
import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import SMALL
from torch import Tensor, nn

import sepkit
from sepkit import (
    audio,
    augment,
    auralflow,
    baselines,
    datasets,
    devices,
    evaluation,
    excerpts,
    inference,
    masks,
    metrics,
    model_folder,
    models,
    plots,
    report,
    schedules,
    separation,
    separator,
    transforms,
)
from sepkit.instantiate import instantiate

ROOT = Path(sepkit.__file__).parent
RATE, LENGTH = 8000, 2000
MODULES = (
    audio, augment, auralflow, baselines, datasets, devices, evaluation, excerpts, inference, masks, metrics,
    model_folder, models, plots, report, schedules, separation, separator, transforms,
)  # fmt: skip
PASSIVE = {
    "errors and what calls return": (
        "AudioError AudioInfo BSSEval Comparison ComparisonError Damage DatasetError Difference Example Excerpt "
        "CatalogueResult Manifest ModelError Plan Row "
        "Score Scores Separated Separates Separation Song Summary WorkerError changed "
        "vanished"
    ),
    "drawn, planned and timed by a training, which checks its recipe": (
        "AudioPlayerCallback LayersVisualCallback LossCallback SpectrogramVisualCallback WaveformVisualCallback "
        "EpochSampler Planner Sampling SamplingRules SongDataset SongTable Stopwatch check_songs augment_and_mix "
        "peak_memory total_memory available_cores load_matplotlib new_figure literal_text"
    ),
    "losses, which have a battery of their own": (
        "ComponentLoss KLDivergenceLoss L1Loss L2Loss LogL1Loss LogL2Loss MaskLoss RMSELoss component_loss kl_div_loss "
        "mask_loss si_sdr_loss"
    ),
    "called by the functions above with what these have checked": (
        "StreamSeparator choose_chunking measure_statistics "
        "best_part check_unchanged describe_damage describe_separated evaluating hash_tensors "
        "list_filter_problems separate_catalogue load_weights read_weights survey_weights save_model write_card "
        "write_tensors shorten build_separator give_weights"
    ),
    "of names and scores, without waveforms": (
        "choose_stems default_place find_model find_recordings locate_model output_name residual_name "
        "is_audio_name main_metric summarize"
    ),
    "of scores that `evaluate` made": "join_scores report_comparison report_compared report_scores",
    "of what `sepkit-data check` found": "report_check shorten_path",
    "of samples within a tar": "PackedInfo",
}

AUGMENTATIONS = {
    **{name: getattr(augment, name)() for name in ("Gain", "Sign", "SwapChannels", "Speed", "Filter", "MidSideGain")},
    **{
        name: getattr(augment, name)(44100, probability=1.0)
        for name in ("CodecBandwidth", "Equalizer", "Limiter", "Reverb")
    },
    "SoftClip": augment.SoftClip(probability=1.0),
}


@dataclass(frozen=True)
class Case:
    """A right call.

    Attributes:
        call: the function; a class's work stands in a lambda.
        given: the arguments by name.
        arrays: names of those that are waveforms, spectrograms or masks.
        numpy: whether numpy arrays are taken for them.
        integers: whether integers are.
        free: whether more, or exchanged, dimensions are another right call.
        counts: names of whole numbers.
        numbers: names of other numbers.
        paths: names of paths.
    """

    call: Callable[..., Any]
    given: dict[str, Any]
    arrays: tuple[str, ...] = ()
    numpy: bool = False
    integers: bool = False
    free: bool = False
    counts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.8 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.4


def spectrum(*shape: int, seed: int = 0) -> Tensor:
    return torch.complex(noise(*shape, seed=seed), noise(*shape, seed=seed + 1))


def model(network: dict[str, Any] | None = None) -> separator.Separator:
    network = network or {"class": "networks.Constant", "gains": [0.5, 0.25]}
    transform = {"class": "STFT", "n_fft": 128, "hop_length": 64}
    return separator.Separator(["vocals", "drums"], network, RATE, 2, 0.1, transform).eval()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    facts = {"n_sources": 2, "n_channels": 2, "n_bins": 65, "sample_rate": RATE}
    return instantiate({"class": name, **SMALL.get(name, {})}, "sepkit.models", facts).eval()


HYBRID = ("HDemucs", "HTDemucs")


WAVE = {"estimate": noise(2, 2, LENGTH), "target": noise(2, 2, LENGTH, seed=1)}
PAIR = ("estimate", "target")
SPECTRA = {"target_spectrogram": spectrum(1, 2, 2, 9, 12), "mixture_spectrogram": spectrum(1, 2, 9, 12, seed=4)}
TARGETS = ("target_spectrogram", "mixture_spectrogram")
STFT = transforms.STFT(128, 64)
PICTURES = transforms.AudioTransform(512, 256, 512, RATE)


def metric(function: Callable[..., Any], **more: Any) -> Case:
    given = {**WAVE, **more}
    numbers = tuple(name for name in more if name in ("eps", "window", "hop"))
    counts = tuple(name for name in more if name in ("sample_rate", "filters"))
    integers = function in (metrics.framewise_sdr, metrics.bss_eval)
    return Case(function, given, PAIR, numpy=True, integers=integers, counts=counts, numbers=numbers)


def cases(folder: Path) -> dict[str, Case]:
    """Right calls by name of the function; what they read is in the folder."""
    song, run = folder / "song.wav", folder / "model"
    songs = {"targets": ["vocals"], "sample_rate": RATE}
    paths = {"paths": ("path",)}
    return {
        "sdr": metric(metrics.sdr, eps=1e-7),
        "snr": metric(metrics.snr, eps=1e-7),
        "si_sdr": metric(metrics.si_sdr, eps=1e-7),
        "sd_sdr": metric(metrics.sd_sdr, eps=1e-7),
        "si_sir": metric(metrics.si_sir, eps=1e-7),
        "si_sar": metric(metrics.si_sar, eps=1e-7),
        "l1_freq": metric(metrics.l1_freq),
        "bleedless": metric(metrics.bleedless, sample_rate=RATE),
        "fullness": metric(metrics.fullness, sample_rate=RATE),
        "framewise_sdr": metric(metrics.framewise_sdr, window=500, hop=500),
        "bss_eval": metric(metrics.bss_eval, window=500, hop=500, filters=8),
        "pesq": metric(metrics.pesq, sample_rate=RATE),
        "stoi": metric(metrics.stoi, sample_rate=RATE),
        "log_wmse": Case(
            metrics.log_wmse,
            {**WAVE, "mixture": noise(2, 2, LENGTH, seed=2), "sample_rate": 44100},
            (*PAIR, "mixture"),
            numpy=True,
            counts=("sample_rate",),
        ),
        "improvement": Case(
            metrics.improvement,
            {"score": noise(3), "mixture_score": noise(3, seed=1)},
            ("score", "mixture_score"),
            numpy=True,
            free=True,
        ),
        "separate": Case(
            inference.separate,
            {"model": model(), "recording": noise(2, LENGTH), "batch_size": 2, "overlap": 0.25, "sample_rate": 4000},
            ("recording",),
            numpy=True,
            counts=("batch_size",),
            numbers=("overlap",),
        ),
        "separate_file": Case(
            lambda recording, output, **more: inference.separate_file(
                model(), recording, output, existing="overwrite", **more
            ),
            {"recording": song, "output": folder / "out", "batch_size": 2, "overlap": 0.25},
            counts=("batch_size",),
            numbers=("overlap",),
            paths=("recording", "output"),
        ),
        "Chunking": Case(
            inference.Chunking,
            {"batch_size": 1, "overlap": 0.5, "window": "triangle", "power": 2.0, "shifts": 1, "seed": 0},
            counts=("batch_size", "shifts", "seed"),
            numbers=("overlap", "power"),
        ),
        "Separator": Case(lambda mixture: model()(mixture), {"mixture": noise(1, 2, LENGTH)}, ("mixture",)),
        "resample": Case(
            audio.resample,
            {"waveform": noise(2, LENGTH), "rate_from": RATE, "rate_to": 6000},
            ("waveform",),
            numpy=True,
            counts=("rate_from", "rate_to"),
        ),
        "Resampler": Case(
            lambda rate_from, rate_to, n_channels, block: audio.Resampler(rate_from, rate_to, n_channels).push(block),
            {"rate_from": RATE, "rate_to": 6000, "n_channels": 2, "block": noise(2, LENGTH)},
            ("block",),
            counts=("rate_from", "rate_to", "n_channels"),
        ),
        "adapt_channels": Case(
            audio.adapt_channels,
            {"waveform": noise(2, LENGTH), "n_channels": 1},
            ("waveform",),
            numpy=True,
            counts=("n_channels",),
        ),
        "write": Case(
            lambda path, waveform, sample_rate: (audio.write(path, waveform, sample_rate), audio.read(path))[1],
            {"path": folder / "new.wav", "waveform": noise(2, LENGTH), "sample_rate": RATE},
            ("waveform",),
            numpy=True,
            counts=("sample_rate",),
            paths=("path",),
        ),
        "AudioWriter": Case(
            lambda path, sample_rate, n_channels, block: _written(path, sample_rate, n_channels, block),
            {"path": folder / "new.wav", "sample_rate": RATE, "n_channels": 2, "block": noise(2, LENGTH)},
            ("block",),
            numpy=True,
            counts=("sample_rate", "n_channels"),
            paths=("path",),
        ),
        "read": Case(audio.read, {"path": song, "start": 3, "n_samples": 5}, counts=("start", "n_samples"), **paths),
        "read_streams": Case(audio.read_streams, {"path": song}, **paths),
        "stream_blocks": Case(
            lambda path, block: list(audio.stream_blocks(path, block)),
            {"path": song, "block": 999},
            **paths,
            counts=("block",),
        ),
        "probe": Case(audio.probe, {"path": song}, **paths),
        "AudioReader": Case(lambda path: audio.AudioReader(path).read(7), {"path": song}, **paths),
        "STFT": Case(
            lambda waveform, **sizes: transforms.STFT(**sizes)(waveform),
            {"waveform": noise(2, LENGTH), "n_fft": 128, "hop_length": 64},
            ("waveform",),
            free=True,
            counts=("n_fft", "hop_length"),
        ),
        "STFT.inverse": Case(
            STFT.inverse,
            {"spectrogram": STFT(noise(2, LENGTH)), "length": LENGTH},
            ("spectrogram",),
            counts=("length",),
        ),
        "AudioTransform": Case(
            lambda audio: PICTURES.audio_to_mel(audio), {"audio": noise(2, LENGTH)}, ("audio",), free=True
        ),
        "AudioTransform.to_mel_scale": Case(
            PICTURES.to_mel_scale, {"spectrogram": noise(2, 257, 9).abs()}, ("spectrogram",)
        ),
        "AudioTransform.to_decibel": Case(
            PICTURES.to_decibel, {"spectrogram": noise(2, 257, 9).abs()}, ("spectrogram",), free=True
        ),
        "AudioTransform.pad_audio": Case(PICTURES.pad_audio, {"audio": noise(2, LENGTH)}, ("audio",), free=True),
        "absolute": Case(transforms.absolute, {"spectrogram": STFT(noise(2, LENGTH))}, ("spectrogram",), free=True),
        "mel_filters": Case(
            transforms.mel_filters,
            {"n_bins": 257, "n_mels": 16, "sample_rate": RATE, "lowest": 1.0, "highest": 4000.0},
            counts=("n_bins", "n_mels"),
            numbers=("sample_rate", "lowest", "highest"),
        ),
        "apply_mask": Case(
            masks.apply_mask,
            {"mask": noise(1, 2, 2, 9, 12), "mixture_spectrogram": SPECTRA["mixture_spectrogram"]},
            ("mask", "mixture_spectrogram"),
        ),
        "ideal_ratio_mask": Case(
            masks.ideal_ratio_mask,
            {"target_spectrogram": SPECTRA["target_spectrogram"], "power": 2.0},
            ("target_spectrogram",),
            free=True,
            numbers=("power",),
        ),
        "ideal_binary_mask": Case(masks.ideal_binary_mask, SPECTRA, TARGETS),
        "phase_sensitive_mask": Case(masks.phase_sensitive_mask, SPECTRA, TARGETS),
        "ideal_complex_mask": Case(masks.ideal_complex_mask, SPECTRA, TARGETS),
        "wiener": Case(
            lambda estimate_spectrogram, mixture_spectrogram, **more: masks.wiener(
                estimate_spectrogram, mixture_spectrogram, **more
            ),
            {
                "estimate_spectrogram": SPECTRA["target_spectrogram"],
                "mixture_spectrogram": SPECTRA["mixture_spectrogram"],
                "iterations": 1,
                "window": 5,
            },
            ("estimate_spectrogram", "mixture_spectrogram"),
            counts=("iterations", "window"),
        ),
        "WienerFilter": Case(
            lambda estimate_spectrogram, mixture_spectrogram, **more: masks.WienerFilter(2, **more)(
                estimate_spectrogram, mixture_spectrogram
            ),
            {
                "estimate_spectrogram": SPECTRA["target_spectrogram"],
                "mixture_spectrogram": SPECTRA["mixture_spectrogram"],
                "iterations": 1,
                "window": 5,
            },
            ("estimate_spectrogram", "mixture_spectrogram"),
            counts=("iterations", "window"),
        ),
        "baseline_estimates": Case(
            lambda mixture, targets, sample_rate: list(
                baselines.baseline_estimates(mixture, targets, STFT, sample_rate)
            ),
            {"mixture": noise(2, LENGTH), "targets": noise(2, 2, LENGTH, seed=1), "sample_rate": RATE},
            ("mixture", "targets"),
            counts=("sample_rate",),
        ),
        "oracle_estimate": Case(
            lambda mixture, targets, sample_rate: baselines.oracle_estimate(mixture, targets, STFT, sample_rate),
            {"mixture": noise(2, LENGTH), "targets": noise(2, 2, LENGTH, seed=1), "sample_rate": RATE},
            ("mixture", "targets"),
            counts=("sample_rate",),
        ),
        "loudest_part": Case(
            excerpts.loudest_part,
            {"waveforms": noise(2, 2, LENGTH), "sample_rate": RATE, "seconds": 0.1},
            ("waveforms",),
            numpy=True,
            counts=("sample_rate",),
            numbers=("seconds",),
        ),
        "plot_spectrogram": Case(
            lambda signal, **more: _drawn(plots.plot_spectrogram(signal, **more)),
            {"signal": noise(2, LENGTH), "sample_rate": RATE},
            ("signal",),
            numpy=True,
            numbers=("sample_rate",),
        ),
        "plot_waveforms": Case(
            lambda waveform, **more: _drawn(*plots.plot_waveforms({"vocals": waveform}, **more)),
            {"waveform": noise(2, LENGTH), "sample_rate": RATE},
            ("waveform",),
            numpy=True,
            numbers=("sample_rate",),
        ),
        "plot_separation": Case(
            lambda mixture, stem, **more: _drawn(*plots.plot_separation(mixture, {"vocals": stem}, **more)),
            {"mixture": noise(2, LENGTH), "stem": noise(2, LENGTH, seed=1), "sample_rate": RATE},
            ("mixture", "stem"),
            numpy=True,
            numbers=("sample_rate",),
        ),
        "plot_difference": Case(
            lambda estimate, target, **more: _drawn(*plots.plot_difference(estimate, target, **more)),
            {"estimate": noise(2, LENGTH), "target": noise(2, LENGTH, seed=1), "sample_rate": RATE},
            PAIR,
            numpy=True,
            numbers=("sample_rate",),
        ),
        "plot_history": Case(lambda history: plots.plot_history(history), {"history": [{"epoch": 1, "loss": 0.5}]}),
        "plot_scores": Case(lambda rows: plots.plot_scores(rows), {"rows": [("model", "a", "vocals", "SDR", 1.0)]}),
        "spec_show_diff": Case(
            lambda estimate, target, resolution: _drawn(*plots.spec_show_diff("a", estimate, target, resolution).axes),
            {"estimate": noise(2, 9, 12), "target": noise(2, 9, 12, seed=1), "resolution": 60},
            PAIR,
            numpy=True,
            free=True,
            numbers=("resolution",),
        ),
        "waveform_show_diff": Case(
            lambda estimate, target, resolution: _drawn(
                *plots.waveform_show_diff("a", estimate, target, resolution).axes
            ),
            {"estimate": noise(2, LENGTH), "target": noise(2, LENGTH, seed=1), "resolution": 60},
            PAIR,
            numpy=True,
            numbers=("resolution",),
        ),
        **{
            name: Case(
                lambda spectrogram, name=name: network(name)(spectrogram),
                {"spectrogram": spectrum(1, 2, 65, 32)},
                ("spectrogram",),
            )
            for name in models.__all__
            if name not in (*HYBRID, "ConvTasNet", "Demucs", "OpenUnmix")
        },
        "OpenUnmix": Case(
            lambda magnitude: network("OpenUnmix")(magnitude),
            {"magnitude": spectrum(1, 2, 65, 32).abs()},
            ("magnitude",),
        ),
        "ConvTasNet": Case(
            lambda mixture: network("ConvTasNet")(mixture), {"mixture": noise(1, 2, LENGTH)}, ("mixture",)
        ),
        **{
            name: Case(
                lambda mixture, spectrogram, name=name: network(name)(mixture, spectrogram),
                {"mixture": noise(1, 2, 1024), "spectrogram": spectrum(1, 2, 65, 32)},
                ("mixture", "spectrogram"),
            )
            for name in HYBRID
        },
        "Demucs": Case(lambda mixture: network("Demucs")(mixture), {"mixture": noise(1, 2, LENGTH)}, ("mixture",)),
        **{
            name: Case(
                lambda stems, parameters, step=step: step(stems, parameters),
                {
                    "stems": noise(3, 2, LENGTH),
                    "parameters": torch.from_numpy(step.sample_parameters(np.random.default_rng(0), 3)),
                },
                ("stems",),
                free=True,
            )
            for name, step in AUGMENTATIONS.items()
        },
        "Remix": Case(
            datasets.Remix, {"share": 0.5, "tempo": 0.04, "key": 1}, counts=("key",), numbers=("share", "tempo")
        ),
        "ActivityRules": Case(
            datasets.ActivityRules,
            {"silent": 0.1, "threshold": -60.0, "sounding": 0.1},
            numbers=("silent", "threshold", "sounding"),
        ),
        **{
            name: Case(
                lambda progress, warmup, name=name: getattr(schedules, name)(warmup=warmup).factor(progress),
                {"progress": 0.5, "warmup": 0.1},
                numbers=("warmup",),
            )
            for name in ("Constant", "Cosine", "Plateau")
        },
        "WarmRestarts": Case(
            lambda progress, period: schedules.WarmRestarts(period).factor(progress),
            {"progress": 0.5, "period": 0.3},
            numbers=("period",),
        ),
        "choose_device": Case(lambda path: devices.choose_device(path), {"path": "cpu"}, **paths),
        "choose_precision": Case(
            lambda path: devices.choose_precision(path, torch.device("cpu")), {"path": "auto"}, **paths
        ),
        "load_model": Case(lambda path: model_folder.load_model(path, trust=True), {"path": run}, **paths),
        "read_card": Case(lambda path: model_folder.read_card(path), {"path": run}, **paths),
        "open_songs": Case(
            lambda path: datasets.open_songs(path, "test", ["vocals"], RATE, 2), {"path": folder / "songs"}, **paths
        ),
        "read_manifest": Case(
            lambda path: datasets.read_manifest(path).rows, {"path": folder / "songs" / "listed.csv"}, **paths
        ),
        "write_manifest": Case(
            lambda path: datasets.write_manifest(datasets.Manifest(folder, "", ()), path),
            {"path": folder / "songs" / "written.csv"},
            **paths,
        ),
        "AudioFolder": Case(
            lambda path, **more: datasets.AudioFolder(path, subset="test", **songs, **more)[0],
            {"path": folder / "songs", "sample_length": 0.1, "num_channels": 2},
            **paths,
            counts=("num_channels",),
            numbers=("sample_length",),
        ),
        "create_audio_folder": Case(
            lambda path, **more: datasets.create_audio_folder(path, split="test", **songs, **more)[0],
            {"path": folder / "songs", "chunk_size": 0.1},
            **paths,
            numbers=("chunk_size",),
        ),
        "MUSDB18": Case(
            lambda path, **more: datasets.MUSDB18(path, "test", **songs, **more)[0],
            {"path": folder / "songs", "segment": 0.1},
            **paths,
            numbers=("segment",),
        ),
        "load_stems": Case(
            lambda path, **more: datasets.load_stems(path, split="test", **songs, **more),
            {"path": folder / "songs", "max_num_tracks": 1},
            **paths,
            counts=("max_num_tracks",),
        ),
        "create_audio_dataset": Case(
            lambda path, **more: datasets.create_audio_dataset(path, split="test", **songs, **more)[0],
            {"path": folder / "songs", "chunk_size": 0.1, "num_chunks": 3},
            **paths,
            numbers=("chunk_size",),
            counts=("num_chunks",),
        ),
        "AudioDataset": Case(
            lambda waveform, **more: datasets.AudioDataset(
                [{"mixture": waveform, "vocals": waveform, "duration": LENGTH}], ["vocals"], sample_rate=RATE, **more
            )[0],
            {"waveform": noise(2, LENGTH), "chunk_size": 0.1, "num_chunks": 3},
            ("waveform",),
            numbers=("chunk_size",),
            counts=("num_chunks",),
        ),
        "verify_dataset": Case(
            lambda path, **more: datasets.verify_dataset(path, ["vocals"], "test", **more),
            {"path": folder / "songs", "sample_rate": RATE, "num_channels": 2},
            **paths,
            counts=("sample_rate", "num_channels"),
        ),
        "evaluate": Case(
            lambda path, **more: (
                evaluation.evaluate(
                    path, folder / "songs", metrics=["SDR"], baselines=False, trust=True, progress=False, **more
                ).rows
            ),
            {"path": run, "window": 0.1, "hop": 0.1, "batch_size": 1, "overlap": 0.25, "workers": 1},
            **paths,
            counts=("batch_size", "workers"),
            numbers=("window", "hop", "overlap"),
        ),
        "compare": Case(
            lambda path: evaluation.compare([path, folder / "scores"]).rows, {"path": folder / "others"}, **paths
        ),
        "report_training": Case(lambda path: report.report_training(path).name, {"path": run}, **paths),
        "report_separation": Case(
            lambda path, **more: (
                report.report_separation(folder / "report.html", "song", path, {"vocals": song}, **more).name
            ),
            {"path": song, "seconds": 0.25},
            **paths,
            numbers=("seconds",),
        ),
    }


def _written(path: Path, sample_rate: int, n_channels: int, block: Tensor) -> tuple[Tensor, int]:
    with audio.AudioWriter(path, sample_rate, n_channels) as writer:
        writer.write(block)
    return audio.read(path)


def _drawn(*axes: Any) -> list[np.ndarray]:
    """Give the numbers that were drawn."""
    pictures = [np.asarray(image.get_array(), float) for ax in axes for image in ax.get_images()]
    return pictures + [np.asarray(line.get_ydata(), float) for ax in axes for line in ax.get_lines()]


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("battery")
    audio.write(folder / "song.wav", noise(2, LENGTH), RATE)
    for seed, stem in enumerate(("vocals", "drums")):
        place = folder / "songs" / "test" / "one" / f"{stem}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        audio.write(place, noise(2, LENGTH, seed=seed), RATE)
    (folder / "songs" / "listed.csv").write_text("path,stem,track,split\ntest/one/vocals.wav,vocals,one,test\n")
    model_folder.save_model(model(), folder / "model")
    for name in ("scores", "others"):
        evaluation.evaluate(
            model(), folder / "songs", metrics=["SDR"], window=0.1, hop=0.1, output=folder / name, progress=False
        )
    return cases(folder)


@pytest.fixture(scope="module")
def plain(calls) -> Callable[[str], Any]:
    """What the right call gives, by name; each is called once."""
    return cache(lambda name: calls[name].call(**calls[name].given))


# All are here


ELSEWHERE = {  # documented, and held by tests of their own
    "sepkit.arguments", "sepkit.cache", "sepkit.constant", "sepkit.datasets.demo", "sepkit.disk", "sepkit.downloads",
    "sepkit.files", "sepkit.generators", "sepkit.registry", "sepkit.zoo",
    "sepkit.bag", "sepkit.chunking", "sepkit.normalization", "sepkit.parts",
    "sepkit.importing", "sepkit.importing.band_split_roformer", "sepkit.importing.bandit", "sepkit.importing.card",
    "sepkit.importing.conv_tasnet", "sepkit.importing.demucs", "sepkit.importing.mdx23c", "sepkit.importing.model",
    "sepkit.importing.open_unmix", "sepkit.importing.scnet", "sepkit.instantiate", "sepkit.joining", "sepkit.lazy",
    "sepkit.lending", "sepkit.locks", "sepkit.losses", "sepkit.mel", "sepkit.models.facts", "sepkit.objective",
    "sepkit.observers", "sepkit.plain", "sepkit.problems", "sepkit.processes", "sepkit.quantities", "sepkit.recipe",
    "sepkit.robust", "sepkit.terminal", "sepkit.terms", "sepkit.training",
}  # fmt: skip
NAMES = cases(Path())  # without the files: for the names of tests


def _public(module: Any) -> set[str]:
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    listed = [name for name in getattr(module, "__all__", own) if callable(getattr(module, name))]
    return {name for name in listed if not name.startswith("_")}


def test_every_public_function_is_tried():
    public = set().union(*map(_public, MODULES))
    passive = set(" ".join(PASSIVE.values()).split())
    assert public == {name.partition(".")[0] for name in NAMES} | passive
    assert {name for name in sepkit.__all__ if not name.startswith("_")} <= public | {"train"}


def test_every_documented_module_is_tried():
    pages = (ROOT.parent / "docs" / "api").glob("*.md")
    documented = {name for page in pages for name in re.findall(r"automodule:: ([\w.]+)", page.read_text("utf-8"))}
    assert {module.__name__ for module in MODULES} >= documented - ELSEWHERE


# Outcomes


def attempt(case: Case, name: str, value: Any) -> Any:
    """Call with one argument replaced; an error must be a sentence of the package's own, and comes back as text."""
    given = {key: torch.clone(kept) if isinstance(kept, Tensor) else kept for key, kept in case.given.items()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(looks|leave a band empty).*")
            return case.call(**{**given, name: value})
    except ImportError as error:
        pytest.skip(str(error))
    except (ValueError, TypeError) as error:
        return Refused(sentence_of(error))


def sentence_of(error: Exception) -> str:
    """Take the sentence of an error that this package raised itself."""
    frame, text = traceback.extract_tb(error.__traceback__)[-1], str(error)
    line = linecache.getline(frame.filename, frame.lineno).strip()
    if ROOT not in Path(frame.filename).parents or not line.startswith("raise "):
        raise AssertionError(f"{frame.filename}: {line}") from error
    assert text.strip()
    assert "\n" not in text or isinstance(error, datasets.DatasetError)  # which lists all findings
    return text


class Refused(str):
    """The sentence of an error."""


def values_of(result: Any) -> list[Tensor]:
    """List the numbers in what a call gave."""
    if isinstance(result, Tensor | np.ndarray | float | int):
        found = torch.as_tensor(result).detach()
        return [torch.view_as_real(found.resolve_conj()).double() if found.is_complex() else found.double()]
    parts = result.values() if isinstance(result, dict) else result
    return [value for part in parts if not isinstance(part, str) for value in values_of(part)]


def assert_same(found: Any, wanted: Any, tolerance: float) -> None:
    assert not isinstance(found, Refused), found
    for one, other in zip(values_of(found), values_of(wanted), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


# Arrays


def _swapped(tensor: Tensor) -> np.ndarray:
    return (
        np.ascontiguousarray(tensor.numpy().swapaxes(-1, -2)).swapaxes(-1, -2) if tensor.dim() > 1 else tensor.numpy()
    )


def _frozen(tensor: Tensor) -> np.ndarray:
    array = tensor.numpy().copy()
    array.setflags(write=False)
    return array


def _with(value: float) -> Callable[[Tensor], Tensor]:
    def changed(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[..., tensor.shape[-1] // 2] = value
        return tensor

    return changed


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _of_other_kind(tensor: Tensor) -> Tensor:
    return tensor.real.clone() if tensor.is_complex() else tensor + 0j


SAME = {  # the result of the plain tensor
    "with gradient": lambda tensor: tensor.clone().requires_grad_(),
    "not contiguous": lambda tensor: tensor.mT.contiguous().mT if tensor.dim() > 1 else tensor,
    "of inference mode": torch.inference_mode()(torch.clone),
}
NUMPY = {  # the same where numpy is taken, else refused
    "numpy": lambda tensor: tensor.numpy(),
    "numpy of float64": lambda tensor: _wide(tensor).numpy(),
    "numpy as soundfile lays it": _swapped,
    "numpy flipped": lambda tensor: tensor.numpy()[::-1].copy()[::-1],
    "numpy read-only": _frozen,
    "numpy big-endian": lambda tensor: tensor.numpy().astype(tensor.numpy().dtype.newbyteorder(">")),
}
PRECISION = {"float64": _wide, "float16": torch.Tensor.half, "bfloat16": torch.Tensor.bfloat16}
REFUSED = {
    "a list": torch.Tensor.tolist,
    "nothing": lambda _: None,
    "text": lambda _: "noise",
    "an open file": lambda _: io.BytesIO(b"RIFF"),
    "a scalar": lambda tensor: tensor.flatten()[0],
    "objects": lambda tensor: np.array([None, tensor], dtype=object),
    "sparse": torch.Tensor.to_sparse,
    "nested": lambda tensor: torch.nested.nested_tensor(list(tensor), layout=torch.strided),
    "bool": lambda tensor: tensor.abs() > 0.1,
    "of the other kind, real or complex": _of_other_kind,
}
EITHER = {
    "nan": _with(math.nan),
    "infinity": _with(math.inf),
    "without sample": lambda tensor: tensor[..., :0],
    "one sample": lambda tensor: tensor[..., :1],
    "one dimension more": lambda tensor: tensor[None],
    "one dimension less": lambda tensor: tensor[0],
    "flat": torch.Tensor.flatten,
    "in museval's layout": lambda tensor: tensor.mT if tensor.dim() > 1 else tensor,
    "on the meta device": lambda tensor: tensor.to("meta"),
    "of integers": lambda tensor: (1000 * tensor.real).short(),
}


def each_array(variants: dict[str, Any]) -> Any:
    return [
        pytest.param(name, array, variant, id=f"{name}-{array}-{variant}")
        for name, case in NAMES.items()
        for array in case.arrays
        for variant in variants
    ]


@pytest.mark.parametrize(("name", "array", "variant"), each_array(SAME))
def test_a_tensor_in_another_state_gives_the_same(calls, plain, name, array, variant):
    case = calls[name]
    found = attempt(case, array, SAME[variant](case.given[array]))
    assert_same(found, plain(name), 1e-6)


@pytest.mark.parametrize(("name", "array", "variant"), each_array(NUMPY))
def test_numpy_arrays_give_the_same_or_are_refused(calls, plain, name, array, variant):
    case = calls[name]
    found = attempt(case, array, NUMPY[variant](case.given[array]))
    if case.numpy:
        assert_same(found, plain(name), 1e-4)
    else:
        assert isinstance(found, Refused)


@pytest.mark.parametrize(("name", "array", "variant"), each_array(PRECISION))
def test_another_precision_gives_nearly_the_same_or_is_refused(calls, plain, name, array, variant):
    case = calls[name]
    if case.given[array].is_complex() and variant != "float64":
        pytest.skip("torch has few operations on half precision complex numbers")
    found = attempt(case, array, PRECISION[variant](case.given[array]))
    if not isinstance(found, Refused):
        assert_same(found, plain(name), 1e-4 if variant == "float64" else 0.1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(("name", "array", "variant"), each_array(REFUSED))
def test_what_is_no_waveform_is_refused(calls, name, array, variant):
    case = calls[name]
    if "kind" in variant and array in ("mask", "signal"):
        pytest.skip("masks and what is drawn may be real or complex")
    assert isinstance(attempt(case, array, REFUSED[variant](case.given[array])), Refused)


@pytest.mark.parametrize(("name", "array", "variant"), each_array(EITHER))
def test_odd_values_and_shapes_give_a_result_or_a_sentence(calls, name, array, variant):
    case = calls[name]
    found = attempt(case, array, EITHER[variant](case.given[array]))
    if variant == "in museval's layout" and not case.free:
        assert isinstance(found, Refused)
    if variant == "of integers" and not case.integers:
        assert isinstance(found, Refused)


NAN_SCORES = ["sdr", "snr", "si_sdr", "sd_sdr", "si_sir", "si_sar"]
NAN_SCORES += ["l1_freq", "bleedless", "fullness", "log_wmse", "pesq", "stoi"]


@pytest.mark.parametrize("array", ["estimate", "target"])
@pytest.mark.parametrize("name", NAN_SCORES)
def test_a_metric_of_nan_is_nan(calls, name, array):
    score = attempt(calls[name], array, _with(math.nan)(calls[name].given[array]))
    assert score.shape == (2,)
    assert score.isnan().all()


@pytest.mark.parametrize("array", ["estimate", "target"])
def test_frames_of_nan_have_no_score_and_the_filters_of_bss_eval_refuse_them(calls, array):
    given = _with(math.nan)(WAVE[array])
    score = attempt(calls["framewise_sdr"], array, given)
    assert score.isnan().tolist() == [[False, False, True, False]] * 2
    assert "must be finite" in attempt(calls["bss_eval"], array, given)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("name", "array"), [(name, array) for name, case in NAMES.items() for array in case.arrays])
def test_a_tensor_on_another_device_gives_the_same_or_a_sentence(calls, plain, name, array):
    found = attempt(calls[name], array, calls[name].given[array].cuda())
    if not isinstance(found, Refused):
        assert_same([value.cpu() for value in values_of(found)], plain(name), 1e-3)


# Numbers and paths

NUMBERS = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    1.5,
    "text",
    None,
    True,
    [1],
    2 + 1j,
    np.float32(4),
    np.int64(4),
]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("name", "number"),
    [(name, key) for name, case in NAMES.items() for key in (*case.counts, *case.numbers)],
)
def test_a_number_gives_a_result_or_a_sentence(calls, name, number, value):
    found = attempt(calls[name], number, value)
    if isinstance(value, str | list | complex) or value is math.nan:
        assert isinstance(found, Refused)


def _name(value: object) -> str:
    return "an open file" if isinstance(value, io.BytesIO) else repr(value)  # whose repr is another in each process


@pytest.mark.parametrize("value", [None, 3, b"bytes", io.BytesIO(), "", "nowhere/at/all", "a\0b", "folder"], ids=_name)
@pytest.mark.parametrize(("name", "path"), [(name, path) for name, case in NAMES.items() for path in case.paths])
def test_a_path_gives_a_result_or_a_sentence(calls, name, path, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    attempt(calls[name], path, value)
