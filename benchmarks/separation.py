"""What separating costs around the network: a stream in bounded memory, against a song in memory as a whole.

    python benchmarks/separation.py [--minutes 1 4 30] [--stems 1 4] [--rounds 3]

Both ways give each stem a constant mask, so that what is left is the work of every separation: reading a 16-bit wav,
the transforms, writing float wavs. The whole song goes through torch.stft and torch.istft at once, and through
soundfile, as in other toolkits; it is left out beyond --longest minutes. One process and one thread each, in turns.
Memory is the peak above that after the imports and one chunk, CPU ms (user and system) are per second; medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile
import torch
from torch import Tensor, nn

from sepkit import audio
from sepkit.devices import peak_memory
from sepkit.inference import separate_file
from sepkit.processes import retain_freed_memory
from sepkit.separator import Separator

STEMS = ("vocals", "drums", "bass", "other")
RATE, N_FFT, HOP = 44100, 2048, 1024


class Quarter(nn.Module):
    """Give every source a quarter of everything."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.n_sources = n_sources

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        shape = mixture_spectrogram.shape
        return mixture_spectrogram.real.new_tensor(0.25).expand(shape[0], self.n_sources, *shape[1:])


def stream(song: Path, folder: Path, n_stems: int) -> None:
    network = {"class": "separation.Quarter"}
    separate_file(Separator(STEMS[:n_stems], network, RATE).eval(), song, folder, overwrite=True)


@torch.inference_mode()
def whole(song: Path, folder: Path, n_stems: int) -> None:
    samples, rate = soundfile.read(song, dtype="float32", always_2d=True)
    mixture = torch.from_numpy(samples.T.copy())
    window = torch.hann_window(N_FFT)
    spectrogram = torch.stft(mixture, N_FFT, HOP, window=window, return_complex=True)
    masked = spectrogram * torch.full((n_stems, 1, 1, 1), 0.25)
    estimates = torch.istft(masked.flatten(0, 1), N_FFT, HOP, window=window, length=mixture.shape[-1])
    for stem, estimate in zip(STEMS, estimates.unflatten(0, (n_stems, 2)), strict=False):
        soundfile.write(folder / f"{stem}.wav", estimate.T.numpy(), rate, subtype="FLOAT")


def peak() -> float:
    """Peak of this process, MB."""
    return peak_memory(torch.device("cpu")) / 2**20


def measure(way: str, song: Path, chunk: Path, n_stems: int) -> tuple[float, float]:
    """Give CPU ms per second of audio and MB, in a process of its own."""
    command = [sys.executable, __file__, "--run", way, str(song), str(chunk), str(n_stems)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return tuple(json.loads(found.stdout))


def run(way: str, song: str, chunk: str, n_stems: str) -> None:
    retain_freed_memory()
    separation = {"stream": stream, "whole": whole}[way]
    with tempfile.TemporaryDirectory() as folder:
        separation(Path(chunk), Path(folder), int(n_stems))
        before, started = peak(), time.process_time()
        separation(Path(song), Path(folder), int(n_stems))
        seconds = time.process_time() - started
    print(json.dumps([1000 * seconds / soundfile.info(song).duration, peak() - before]))


def build(path: Path, seconds: float) -> Path:
    generator = torch.Generator().manual_seed(0)
    with audio.AudioWriter(path, RATE, 2, "PCM_16") as writer:
        for start in range(0, round(seconds * RATE), RATE):
            writer.write(0.1 * torch.randn(2, min(RATE, round(seconds * RATE) - start), generator=generator))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 4, 30])
    parser.add_argument("--stems", type=int, nargs="+", default=[1, 4], choices=[1, 2, 3, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=float, default=10, help="minutes up to which the whole song is tried")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(*options.run)
    print("| stems | minutes | stream ms/s | whole ms/s | ratio | stream MB | whole MB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        chunk = build(Path(folder) / "chunk.wav", 3.0)
        for minutes in options.minutes:
            song = build(Path(folder) / "song.wav", 60 * minutes)
            for n_stems in options.stems:
                print(f"| {n_stems} | {minutes:g} | {compare(song, chunk, n_stems, minutes, options)} |", flush=True)
    return None


def compare(song: Path, chunk: Path, n_stems: int, minutes: float, options: argparse.Namespace) -> str:
    ways = ["stream", "whole"] if minutes <= options.longest else ["stream"]
    found = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            found[way].append(measure(way, song, chunk, n_stems))
    cost, memory = ({way: statistics.median(run[i] for run in runs) for way, runs in found.items()} for i in (0, 1))
    if "whole" not in found:
        return f"{cost['stream']:.1f} | - | - | {memory['stream']:.0f} | -"
    ratio = cost["whole"] / cost["stream"]
    return f"{cost['stream']:.1f} | {cost['whole']:.1f} | {ratio:.2f} | {memory['stream']:.0f} | {memory['whole']:.0f}"


if __name__ == "__main__":
    main()
