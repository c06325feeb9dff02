"""Judge the generated singing against real singing: spectra, vibrato and level curves side by side in one picture.

python benchmarks/singing.py --real FOLDER [--output docs/images/singing.png]

FOLDER holds recordings of solo singing, such as those of the PJS corpus (CC BY-SA 4.0). Beside them stand the vocals
of as many built-in songs, and of as many songs of `sepkit-data songs`. The numbers behind the curves are
printed as a table.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy import fft, signal
from tqdm import tqdm

from sepkit import audio
from sepkit.datasets.demo import make_song as make_built_in
from sepkit.datasets.singing import make_song

RATE = 44100
HOP = 441  # 10 ms
FRAME = 4096
CENTRES = 62.5 * 2.0 ** (np.arange(0, 50) / 6.0)
NAMES = ("real", "built-in songs", "sepkit-data songs")
QUANTILES = (10, 50, 90)


def read_real(folder: Path, count: int) -> list[np.ndarray]:
    """Read recordings, (T,) at 44.1 kHz each."""
    files = sorted(path for path in folder.rglob("*") if audio.is_audio_name(path.name))
    chosen = files[:: max(1, len(files) // count)][:count]
    return [audio.read(path)[0].mean(0).numpy() for path in tqdm(chosen, desc="real", disable=None)]


def frames_of(waveform: np.ndarray) -> np.ndarray:
    padded = np.pad(waveform, (FRAME // 2, FRAME))
    return np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]


def measure_spectrum(waveform: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Measure the power of sixths of an octave in dB relative to the whole, where somebody sings."""
    loud = frames_of(waveform)[: len(level)][level > -30.0][::4]
    power = (np.abs(fft.rfft(loud * np.hanning(FRAME))) ** 2).mean(0)
    bins = fft.rfftfreq(FRAME, 1 / RATE)
    bands = [power[(bins >= c / 2 ** (1 / 12)) & (bins < c * 2 ** (1 / 12))].sum() for c in CENTRES]
    return 10 * np.log10(np.array(bands) / power.sum() + 1e-9)


def measure_level(waveform: np.ndarray) -> np.ndarray:
    """Measure the level of 50 ms every 10 ms, in dB relative to the 95th percentile."""
    power = np.convolve(waveform**2, np.ones(5 * HOP) / (5 * HOP), "same")[::HOP]
    level = 10 * np.log10(power + 1e-10)
    return level - np.percentile(level, 95)


def measure_pitch(waveform: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Measure the pitch every 10 ms on the MIDI scale by autocorrelation; NaN where there is none."""
    frames = frames_of(waveform)[: len(level)]
    window = np.hanning(FRAME)
    spectra = np.abs(fft.rfft(frames * window, 2 * FRAME)) ** 2
    correlation = (
        fft.irfft(spectra)[:, : RATE // 60] / fft.irfft(np.abs(fft.rfft(window, 2 * FRAME)) ** 2)[: RATE // 60]
    )
    correlation /= correlation[:, :1] + 1e-12
    first = RATE // 900
    inside = correlation[:, first:]
    is_peak = (inside[:, 1:-1] > inside[:, :-2]) & (inside[:, 1:-1] >= inside[:, 2:])
    best = np.where(is_peak, inside[:, 1:-1], 0.0)
    lag = np.argmax(best > 0.9 * best.max(1, keepdims=True), axis=1) + first + 1
    rows = np.arange(len(lag))
    left, middle, right = (correlation[rows, lag + k] for k in (-1, 0, 1))
    fine = lag + 0.5 * (left - right) / (left - 2 * middle + right - 1e-12)
    voiced = (level > -30.0) & (best.max(1) > 0.7)
    return np.where(voiced, 69 + 12 * np.log2(RATE / np.maximum(fine, 1.0) / 440), np.nan)


def list_notes(pitch: np.ndarray) -> list[np.ndarray]:
    """Cut a pitch curve into stretches of at least 0.5 s without a leap."""
    steps = np.abs(np.diff(pitch, prepend=np.nan))
    broken = np.flatnonzero(~(steps < 0.8))
    return [part for part in np.split(pitch, broken) if len(part) >= 50 and np.isfinite(part).all()]


def measure_vibrato(note: np.ndarray) -> tuple[float, float]:
    """Measure the rate in Hz and the depth in semitones of what swings at 4 to 8 Hz in a note."""
    slow = np.convolve(np.pad(note, 12, mode="edge"), np.ones(25) / 25, "valid")
    middle = (note - slow)[5:-5]
    spectrum = np.abs(fft.rfft(middle * np.hanning(len(middle)), 512)) * 4 / len(middle)
    rates = fft.rfftfreq(512, 0.01)
    inside = (rates >= 4) & (rates <= 8)
    k = np.argmax(np.where(inside, spectrum, 0))
    return rates[k], spectrum[k]


def measure(waveforms: list[np.ndarray]) -> dict[str, np.ndarray]:
    found = {name: [] for name in ("spectrum", "rate", "depth", "level", "syllables", "voiced", "tail")}
    for waveform in waveforms:
        if np.abs(waveform).max() < 1e-4:
            continue
        level = measure_level(waveform)
        pitch = measure_pitch(waveform, level)
        found["spectrum"].append(measure_spectrum(waveform, level))
        swings = [measure_vibrato(note) for note in list_notes(pitch)]
        found["rate"] += [rate for rate, depth in swings if depth > 0.15]
        found["depth"] += [depth for _, depth in swings]
        sounding = np.maximum(level, -40.0)
        found["level"].append(np.percentile(sounding[level > -40.0], (5, 25, 50, 75)))
        modulation = np.abs(fft.rfft(signal.detrend(sounding) * np.hanning(len(sounding)), 8192)) ** 2
        rates = fft.rfftfreq(8192, 0.01)
        bands = [(rates >= low) & (rates < 2 * low) for low in (0.5, 1, 2, 4, 8, 16)]
        energy = np.array([modulation[band].sum() for band in bands])
        found["syllables"].append(energy / energy.sum())
        found["voiced"].append(np.isfinite(pitch)[level > -30.0].mean())
        found["tail"].append(level)
    return {name: values if name == "tail" else np.array(values) for name, values in found.items()}


def draw(results: dict[str, dict], shown: dict[str, np.ndarray], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 3, figsize=(13, 9.5), sharex="row", sharey="row", layout="constrained")
    for column, (name, found) in enumerate(results.items()):
        low, middle, high = np.percentile(found["spectrum"], QUANTILES, axis=0)
        axes[0, column].fill_between(CENTRES, low, high, alpha=0.3)
        axes[0, column].semilogx(CENTRES, middle)
        axes[0, column].set(title=name, xlabel="Hz", ylim=(-60, 0), xlim=(60, 20000))
        waveform = shown[name]
        level = measure_level(waveform)
        pitch = measure_pitch(waveform, level)
        time = np.arange(len(level)) / 100
        axes[1, column].plot(time, pitch, ".", markersize=1.5)
        axes[1, column].set(xlabel="s", xlim=(0, 8), ylim=(40, 80))
        axes[2, column].plot(time, level, linewidth=0.8)
        axes[2, column].set(xlabel="s", ylim=(-60, 5), xlim=(0, 8))
    for row, label in enumerate(("sixths of an octave, dB", "pitch, MIDI", "level, dB")):
        axes[row, 0].set_ylabel(label)
    figure.savefig(path, dpi=80, metadata={"Software": None})


def print_table(results: dict[str, dict]) -> None:
    print("| | " + " | ".join(results) + " |\n|---|" + "---|" * len(results))
    octaves = {
        f"{hz} Hz octave, dB": np.abs(np.log2(CENTRES / hz)) < 0.45 for hz in (125, 250, 500, 1000, 2000, 4000, 8000)
    }
    for label, band in octaves.items():
        values = [10 * np.log10((10 ** (found["spectrum"][:, band] / 10)).sum(1)) for found in results.values()]
        print(f"| {label} | " + " | ".join(f"{np.median(v):.1f} ({v.std():.1f})" for v in values) + " |")
    rows = {
        "vibrato, Hz": lambda found: np.median(found["rate"]) if len(found["rate"]) else np.nan,
        "vibrato, semitones, median": lambda found: np.median(found["depth"]),
        "vibrato, semitones, 90 %": lambda found: np.percentile(found["depth"], 90),
        "level below the loudest: 5 %, dB": lambda found: np.median(found["level"][:, 0]),
        "level below the loudest: 25 %, dB": lambda found: np.median(found["level"][:, 1]),
        "level below the loudest: 50 %, dB": lambda found: np.median(found["level"][:, 2]),
        "swing of the level at 1 to 2 Hz": lambda found: np.median(found["syllables"][:, 1]),
        "swing of the level at 2 to 4 Hz": lambda found: np.median(found["syllables"][:, 2]),
        "swing of the level at 4 to 8 Hz": lambda found: np.median(found["syllables"][:, 3]),
        "share with pitch": lambda found: np.median(found["voiced"]),
    }
    for label, take in rows.items():
        print(f"| {label} | " + " | ".join(f"{take(found):.2f}" for found in results.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder of solo singing")
    parser.add_argument("--count", type=int, default=24, help="recordings of each kind (default: 24)")
    parser.add_argument("--output", type=Path, default=Path("docs/images/singing.png"), help="the picture")
    options = parser.parse_args()
    mpl.use("Agg")
    seeds = tqdm(range(options.count), desc="generated", disable=None)
    made = [(make_built_in(seed)["vocals"].mean(0), make_song(seed)[1]["vocals"].mean(0)) for seed in seeds]
    kinds = [read_real(options.real, options.count), [first for first, _ in made], [second for _, second in made]]
    results = {name: measure(waveforms) for name, waveforms in zip(NAMES, kinds, strict=True)}
    print_table(results)
    loud = {
        name: next(w for w in waveforms if measure_level(w)[:800].mean() > -25)
        for name, waveforms in zip(NAMES, kinds, strict=True)
    }
    draw(results, loud, options.output)
    print(f"picture: {options.output}")


if __name__ == "__main__":
    main()
