"""A whole song through the commands: sepkit-separate beside audio-separator, with the same weights.

    python benchmarks/whole_song.py --peers PEERS [--seconds 60] [--case 'Mel-Band RoFormer 384, 6 blocks'] [--rounds 1]

PEERS is the folder of `benchmarks/networks.py`, whose cases these are. The weights are random; audio-separator finds
them under the name of a model that it knows, beside an empty list of what could be downloaded, so that it needs no
network. Both cover each sample twice (overlap 2 there, 0.5 here) and write WAV files, of 16 bits there, of float here.
CPU seconds (user and system) and the largest memory are those of the whole command with one thread, start and loading
included. Songs of less than 10 s are cut smaller there. The stems are compared as they are written, and those of the
first chunk once more, put together here by the rules of audio-separator.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from networks import CASES, build_original, build_own
from torch import Tensor

from sepkit import audio
from sepkit.model_folder import load_model, save_model

KNOWN = "vocals_mel_band_roformer"  # the name of a model that audio-separator knows
LISTS = ("vr", "mdx", "mdx_vip", "mdx23c", "mdx23c_vip", "roformer", "demucs")
RATE = 44100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="folder of audio-separator")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--case", default="Mel-Band RoFormer 384, 6 blocks", choices=[n for n in CASES if "Ro" in n])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        sys.path.append(str(options.peers))
        return build(options.case, options.build)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        same = ["--peers", options.peers, "--case", options.case]
        subprocess.run([sys.executable, "-W", "ignore", __file__, *same, "--build", folder], check=True)
        write_song(folder / "song.wav", options.seconds)
        found = {command: [] for command in ("audio-separator", "sepkit-separate")}
        for _ in range(options.rounds):
            for command, results in found.items():
                results.append(measure(command, folder, options.peers))
        print_table(found, options)
        print(f"\nThe stems differ by {difference(*read_stems(folder)):.0f} dB of the stem.")
        print(f"Put together and cut off as there, those of a chunk by {difference(*imitate(folder)):.0f} dB.")
    return None


def print_table(found: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> None:
    print(f"{options.case}, a song of {options.seconds:g} s\n")
    print("| command | CPU s | MB | times as fast | share |\n|---|---|---|---|---|")
    medians = {name: [statistics.median(column) for column in zip(*results)] for name, results in found.items()}  # noqa: B905
    seconds, megabytes = medians["audio-separator"]
    for name, (own_seconds, own_megabytes) in medians.items():
        ratios = f"{seconds / own_seconds:.2f} | {own_megabytes / megabytes:.2f}"
        print(f"| {name} | {own_seconds:.1f} | {own_megabytes:.0f} | {ratios} |")


def build(name: str, folder: Path) -> None:
    """Write random weights as both packages take them."""
    torch.manual_seed(0)
    case = CASES[name]
    state = build_original(case).state_dict()
    models = folder / "models"
    models.mkdir()
    torch.save(state, models / f"{KNOWN}.ckpt")
    config = {**case.config, "inference": {"batch_size": 1, "dim_t": case.length // 441 + 1, "num_overlap": 2}}
    (models / f"{KNOWN}.yaml").write_text(yaml.dump(config))  # tuples as the community's files have them
    nothing = {f"{kind}_download_list": {} for kind in LISTS[:2] + LISTS[3:4] + LISTS[5:]}
    nothing |= {f"{kind.removesuffix('_vip')}_download_vip_list": {} for kind in LISTS if kind.endswith("_vip")}
    (models / "download_checks.json").write_text(json.dumps(nothing))
    save_model(build_own(case, models / f"{KNOWN}.ckpt"), folder / "model")


def write_song(path: Path, seconds: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with audio.AudioWriter(path, RATE, 2, "PCM_16") as writer:
        for start in range(0, round(seconds * RATE), RATE):
            writer.write(0.1 * torch.randn(2, min(RATE, round(seconds * RATE) - start), generator=generator))


def measure(command: str, folder: Path, peers: Path) -> tuple[float, float]:
    """Run a command, and give its CPU seconds and its largest memory in MB."""
    if command == "sepkit-separate":
        program = "import sys; from sepkit.cli import separate_command; sys.exit(separate_command())"
        arguments = ["--model", folder / "model", "--output", folder / "ours", "--overlap", "0.5", "--overwrite"]
    else:
        program = f"import sys; sys.path.append({str(peers)!r}); from audio_separator.utils.cli import main; main()"
        arguments = ["--model_filename", f"{KNOWN}.ckpt", "--model_file_dir", folder / "models"]
        arguments += ["--output_dir", folder / "theirs", "--output_format", "WAV", "--mdxc_overlap", "2"]
        arguments += ["--single_stem", "vocals", "--normalization", "1.0"]
    words = [sys.executable, "-W", "ignore", "-c", program, folder / "song.wav", *arguments]
    process = subprocess.Popen([str(word) for word in words], env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def read_stems(folder: Path) -> tuple[Tensor, Tensor]:
    (theirs,), (ours,) = list((folder / "theirs").rglob("*.wav")), list((folder / "ours").rglob("vocals.wav"))
    return audio.read(theirs)[0], audio.read(ours)[0]


@torch.inference_mode()
def imitate(folder: Path) -> tuple[Tensor, Tensor]:
    """Put the first chunk together by this package's network and audio-separator's rules.

    Chunks that overlap are weighted by Hamming windows there, by ramps here; samples are multiplied by 32767 and lose
    what is behind the point there.
    """
    theirs, _ = read_stems(folder)
    model, (mixture, _) = load_model(folder / "model"), audio.read(folder / "song.wav")
    length = min(round(model.segment * RATE), mixture.shape[-1])
    weights = torch.hamming_window(length, periodic=False)
    starts = (0, min(length // 2, mixture.shape[-1] - length))  # the next chunk begins after the first
    total, weight = torch.zeros_like(mixture), torch.zeros_like(mixture)
    for start in starts:
        part = slice(start, start + length)
        total[:, part] += weights * model(mixture[None, :, part])[0, 0]
        weight[:, part] += weights
    stem = (total[:, :length] / weight[:, :length] * 32767).trunc() / 32768
    return theirs[:, :length], stem


def difference(theirs: Tensor, ours: Tensor) -> float:
    """Compare stems, dB."""
    n_samples = min(theirs.shape[-1], ours.shape[-1])
    error = (theirs[..., :n_samples].double() - ours[..., :n_samples].double()).square().mean()
    return float(10 * torch.log10(error / ours.double().square().mean()))


if __name__ == "__main__":
    main()
