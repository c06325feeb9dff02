"""The commands sepkit-train and sepkit-separate: outcomes, exit codes, one sentence for every failure."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from networks import Constant
from songs import noise, write_song
from training import RECIPE, song, stored_state, weights

from sepkit import __version__, audio
from sepkit.cli import evaluate_command, separate_command, train_command
from sepkit.inference import find_recordings, separate_catalogue
from sepkit.model_folder import load_model, save_model
from sepkit.separator import Separator

RATE = 8000
COMMANDS = {"sepkit-train": train_command, "sepkit-separate": separate_command, "sepkit-evaluate": evaluate_command}
BIN = Path(sys.executable).parent
ODD = json.loads((Path(__file__).parent / "data" / "odd_files.json").read_text(encoding="utf-8"))


class Interrupting(Constant):
    """Be interrupted while separating."""

    def forward(self, mixture_spectrogram: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT if self.gains[0] > 0 else signal.SIGTERM)
        return super().forward(mixture_spectrogram)


class Breaking(Constant):
    def forward(self, mixture_spectrogram: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        raise RuntimeError("a bug")


def write_model(folder: Path, network: str = "networks.Constant", finished: str | None = "now", **gains: float) -> Path:
    gains = gains or {"vocals": 0.5, "drums": 0.25}
    transform = {"class": "STFT", "n_fft": 256, "hop_length": 128}
    spec = {"class": network, "gains": list(gains.values())}
    save_model(Separator(list(gains), spec, RATE, 2, 0.5, transform), folder, {"finished": finished})
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty current folder with a model, and modules imported as before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEPKIT_MODEL", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    write_model(tmp_path / "model")
    return tmp_path


def write(path: str | Path, n_samples: int = 6000, peak: float = 0.5) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, peak / 0.25 * torch.from_numpy(noise(len(path.name), n_samples).T).float(), RATE)
    return path


def separate(*arguments: str, model: str = "model") -> int:
    return separate_command([*arguments, "--model", model, "--trust", "--device", "cpu"])


def stems_below(folder: str = "separated") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


# Separate


def test_a_file_is_separated_into_a_folder_of_its_name(capsys):
    assert separate(str(write("song.wav"))) == 0
    assert stems_below() == ["song/drums.wav", "song/vocals.wav"]
    out = capsys.readouterr()
    assert out.out == "model model: vocals, drums at 8000 Hz\nsong.wav -> separated/song/{vocals.wav,drums.wav}\n"
    assert out.err == ""


@pytest.mark.parametrize("where", [["--", "-n.wav"], ["--stems", "vocals", "--", "-n.wav"], ["./-n.wav"]], ids=" ".join)
def test_a_recording_whose_name_begins_with_a_dash_is_found(where):
    write("-n.wav")
    assert separate_command(["--model", "model", "--trust", "--device", "cpu", *where]) == 0
    assert "-n/vocals.wav" in stems_below()


def test_stems_hold_the_masked_recording():
    separate(str(write("song.wav")))
    wanted = 0.5 * audio.read("song.wav")[0]
    torch.testing.assert_close(audio.read("separated/song/vocals.wav")[0], wanted, rtol=0, atol=1e-6)


def test_a_folder_is_separated_at_any_depth():
    for name in ["album/one.wav", "album/deep/two.flac", "album/cover.jpg/three.wav"]:
        write(name)
    Path("album/notes.txt").write_text("no audio")
    assert separate("album", "--stems", "vocals") == 0
    assert stems_below() == ["cover.jpg/three/vocals.wav", "deep/two/vocals.wav", "one/vocals.wav"]


def test_of_a_folder_of_songs_the_mixtures_are_separated():
    for name in ["root/a/mixture.wav", "root/a/vocals.wav", "root/b/mixture.flac", "root/b/drums.wav", "root/c.wav"]:
        write(name)
    assert separate("root", "--stems", "drums") == 0
    assert stems_below() == ["a/drums.wav", "b/drums.wav", "c/drums.wav"]


def test_hidden_files_and_the_output_are_not_separated_again():
    for name in ["here/song.wav", "here/.hidden.wav", "here/.sepkit-x/part.wav"]:
        write(name)
    assert separate("here", "--output", "here/separated") == 0
    assert separate("here", "--output", "here/separated", "--overwrite") == 0
    assert stems_below("here/separated") == ["song/drums.wav", "song/vocals.wav"]


def test_the_same_file_named_twice_is_separated_once():
    assert list(find_recordings([str(write("song.wav")), "./song.wav"], "out")) == ["song"]


@pytest.mark.parametrize("kind", [str, Path])
def test_one_place_of_recordings_may_stand_without_a_list(kind):
    song = Path(write("song.wav"))
    assert find_recordings(kind(song), "out") == find_recordings([song], "out") == {"song": song}
    assert list(find_recordings(kind(song.parent), "out")) == ["song"]
    with pytest.raises(ValueError, match="nothing does not exist"):
        find_recordings(kind("nothing"), "out")


@pytest.mark.parametrize(
    ("names", "clashes"),
    [
        (["a/song.wav", "b/song.flac"], "song/ of a/song.wav, b/song.flac"),
        (["song.wav", "song/mixture.wav"], "song/ of song.wav, song/mixture.wav"),
        (
            ["a/one.wav", "b/one.wav", "a/two.wav", "c/two.wav"],
            "one/ of a/one.wav, b/one.wav; two/ of a/two.wav, c/two.wav",
        ),
        ([f"{k}/s.wav" for k in range(7)], "s/ of 0/s.wav, 1/s.wav, 2/s.wav, 3/s.wav, 4/s.wav, and 2 more"),
    ],
)
def test_all_recordings_of_equal_names_are_refused_before_work(capsys, names, clashes):
    for name in names:
        write(name)
    assert separate(*names) == 2
    assert capsys.readouterr().err == (
        "sepkit-separate: recordings of the same name would be written to one folder, rename them or give each an "
        f"--output of its own: {clashes}\n"
    )
    assert not Path("separated").exists()


@pytest.mark.parametrize("names", [["Song.wav", "song.flac"], ["a/\u00e9.wav", "b/e\u0301.wav"], ["a?.wav", "a*.wav"]])
def test_recordings_that_would_meet_in_a_folder_on_some_system_are_refused(capsys, names):
    for name in names:
        write(name)
    assert separate(*names) == 2
    assert ", ".join(names) in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["...wav", "..wav", "aux.wav", "x .wav", "a:b.wav", "a\\b.wav", "\n.wav", "Caf\udce9.wav"]
)
def test_a_recording_of_any_name_is_separated_into_the_output(name):
    write("in/it.wav").rename(f"in/{name}")
    assert separate(f"in/{name}", "--stems", "drums") == 0
    (written,) = Path("separated").rglob("*.wav")
    assert written.resolve().parent.parent == Path("separated").resolve()
    assert sorted(path.name for path in Path().iterdir()) == ["in", "model", "separated"]


def test_links_to_folders_are_followed_and_those_that_lead_back_are_told(capsys):
    for name in ["album/cd1/a.wav", "elsewhere/deep/b.wav", "album/out/c/drums.wav"]:
        write(name)
    for link, target in [
        ("album/cd2", "../elsewhere"),
        ("album/again", "cd1"),
        ("album/up", ".."),
        ("album/itself", "."),
        ("elsewhere/back", "../album"),
        ("album/stems", "out"),
    ]:
        Path(link).symlink_to(target)
    assert separate("album", "--output", "album/out", "--stems", "drums") == 0
    assert stems_below("album/out") == ["c/drums.wav", "cd1/a/drums.wav", "cd2/deep/b/drums.wav"]
    assert "passed over: 4 linked folders\n" in capsys.readouterr().out


def test_what_is_passed_over_in_a_folder_is_told_in_a_line(capsys):
    for name in ["album/a.wav", "album/song/mixture.wav", "album/song/vocals.wav", "album/song/drums.wav"]:
        write(name)
    for name in ["a.xyz", "b.XYZ", "c.jpg", "README", ".hidden", ".DS_Store"]:
        Path("album", name).write_text("")
    assert separate("album") == 0
    told = "passed over: 4 files (.xyz 2, without suffix 1, .jpg 1), 2 files beside a mixture"
    assert sorted(capsys.readouterr().out.splitlines()[0].split(", ")) == sorted(told.split(", "))


def test_a_folder_without_audio_says_what_is_in_it(capsys):
    Path("web").mkdir()
    Path("web/a.xyz").write_text("")
    assert separate("web") == 2
    assert "there is no audio file in web (passed over: 1 file (.xyz 1))" in capsys.readouterr().err


def test_a_file_in_the_place_of_one_folder_does_not_stop_the_others(capsys):
    for name in ("a", "b"):
        write(f"album/{name}.wav")
    Path("separated").mkdir()
    Path("separated/a").write_text("")
    assert separate("album", "--stems", "drums") == 1
    assert stems_below() == ["a", "b/drums.wav"]
    assert "failed: the output must be a folder, separated/a is a file" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
@pytest.mark.parametrize(
    ("encoding", "name"), [("utf-8:strict", "caf\udce9"), ("cp1252", "ű"), ("ascii:strict", "☺"), ("latin-1", "歌")]
)
def test_names_that_stdout_cannot_encode_stop_nothing(encoding, name):
    for each in (name, "ok"):
        write("album/it.wav").rename(f"album/{each}.wav")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [BIN / "sepkit-separate", "album", "--model", "model", "--trust", "--device", "cpu", "--stems", "drums"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(stems_below()) == 2
    assert name.encode("ascii", "backslashreplace") in done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "a recording has no name: one of the arguments is empty"),
        ("nowhere.wav", "nowhere.wav does not exist"),
        ("empty", "there is no audio file in empty"),
    ],
)
def test_what_is_not_there_is_a_wrong_call(capsys, given, message):
    Path("empty").mkdir()
    assert separate(given) == 2
    assert capsys.readouterr().err == f"sepkit-separate: {message}\n"


def test_a_broken_file_does_not_stop_the_others_and_is_listed_at_the_end(capsys):
    write("album/b.wav")
    Path("album/a.wav").write_bytes(b"no audio at all")
    Path("album/c.wav").write_bytes(b"")
    assert separate("album") == 1
    assert stems_below() == ["b/drums.wav", "b/vocals.wav"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("failed: Cannot read audio from album/a.wav")
    assert lines[1].startswith("failed: album/c.wav is empty")


def test_a_file_that_is_no_audio_by_name_is_tried_when_it_is_named(capsys):
    Path("letter.txt").write_text("dear reader " * 100)
    assert separate("letter.txt") == 1
    assert "Cannot read audio from letter.txt" in capsys.readouterr().err


def test_recordings_of_one_name_in_two_folders_keep_theirs():
    for name in ["music/a/01.wav", "music/b/01.wav", "music/b/live/01.wav"]:
        write(name)
    assert separate("music", "--stems", "drums") == 0
    assert stems_below() == ["a/01/drums.wav", "b/01/drums.wav", "b/live/01/drums.wav"]


def test_folders_of_names_that_some_system_does_not_take_get_safe_ones():
    write("in/it.wav").rename("it.wav")
    Path("in/a?. ").mkdir()
    Path("it.wav").rename("in/a?. /it.wav")
    assert separate("in", "--stems", "drums") == 0
    assert stems_below() == ["a___/it/drums.wav"]


@pytest.mark.parametrize(
    "names", [["A/01.wav", "a/01.flac"], ["a?/01.wav", "a*/01.wav"], ["\u00e9/1.wav", "e\u0301/1.wav"]]
)
def test_folders_that_some_system_takes_for_one_are_refused(capsys, names):
    for name in names:
        write(f"in/{name}")
    assert separate("in") == 2
    assert "recordings of the same name would be written to one folder" in capsys.readouterr().err


def test_recordings_whose_stems_are_there_are_skipped_and_counted_in_a_line(capsys):
    for name in ["one.wav", "two.wav", "three.wav"]:
        write(f"album/{name}")
    assert separate("album/one.wav", "album/two.wav") == 0
    before = Path("separated/one/vocals.wav").stat().st_mtime_ns
    capsys.readouterr()
    assert separate("album", "--existing", "skip") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "album/three.wav -> separated/three/{vocals.wav,drums.wav}",
        "skipped: 2 recordings whose stems are there already",
    ]
    assert Path("separated/one/vocals.wav").stat().st_mtime_ns == before


def test_a_catalogue_is_separated_from_python_and_its_failures_are_listed(place):
    write("album/one.wav")
    Path("album/two.wav").write_bytes(b"no audio at all")
    recordings = find_recordings(["album"], "out")
    assert recordings == {"one": Path("album/one.wav"), "two": Path("album/two.wav")}
    result = separate_catalogue(load_model(place / "model", trust=True), recordings, "out", stems=["drums"])
    assert {name: stems.stems for name, stems in result.separated.items()} == {
        "one": {"drums": Path("out/one/drums.wav")}
    }
    assert [failure.partition(":")[0] for failure in result.failures] == ["Cannot read audio from album/two.wav"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "m4a"}, "format must be"),
        ({"existing": "ask"}, "existing must be"),
        ({"overlap": 1}, "overlap must"),
    ],
)
def test_an_option_of_a_catalogue_that_cannot_be_meant_is_refused_before_work(place, options, message):
    model = load_model(place / "model", trust=True)
    with pytest.raises(ValueError, match=message):
        separate_catalogue(model, {"song": write("song.wav")}, "out", **options)


def test_existing_stems_are_refused_without_overwrite(capsys):
    write("one.wav")
    separate("one.wav")
    before = Path("separated/one/vocals.wav").stat().st_mtime_ns
    write("two.wav")
    assert separate("one.wav", "two.wav") == 1
    assert "one/drums.wav are there already: choose another output, or pass --overwrite" in capsys.readouterr().err
    assert Path("separated/one/vocals.wav").stat().st_mtime_ns == before
    assert Path("separated/two/vocals.wav").is_file()
    assert separate("one.wav", "--overwrite") == 0
    assert Path("separated/one/vocals.wav").stat().st_mtime_ns > before


def test_stems_and_residual_are_chosen():
    separate(str(write("song.wav")), "--stems", "drums", "residual")
    assert stems_below() == ["song/drums.wav", "song/residual.wav"]
    separate("song.wav", "--residual", "--output", "all")
    assert stems_below("all") == ["song/drums.wav", "song/residual.wav", "song/vocals.wav"]


def test_the_model_says_how_recordings_are_cut_where_no_option_does(place):
    card = place / "model" / "model.json"
    described = json.loads(card.read_text())
    described["separator"] |= {
        "network": {"class": "networks.Placed"},
        "chunking": {"window": "triangle", "last": "short", "overlap": 0.5},
    }
    card.write_text(json.dumps(described))
    write("song.wav", 9000)
    outputs = {"plain": [], "same": ["--overlap", "0.5"], "less": ["--overlap", "0.1"], "shifted": ["--shifts", "2"]}
    for output, options in outputs.items():
        assert separate("song.wav", "--output", output, *options) == 0
    plain, same, less, shifted = (audio.read(f"{output}/song/vocals.wav")[0] for output in outputs)
    assert torch.equal(plain, same)
    assert not torch.allclose(plain, less)
    assert not torch.allclose(plain, shifted)
    assert separate("song.wav", "--output", "again", "--shifts", "2") == 0
    assert torch.equal(audio.read("again/song/vocals.wav")[0], shifted)


def test_of_vocals_alone_the_accompaniment_is_written(place):
    write_model(place / "voice", vocals=0.5)
    separate(str(write("song.wav")), model="voice")
    assert stems_below() == ["song/accompaniment.wav", "song/vocals.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stems", "voice"], "stems must be among vocals, drums, residual, got voice"),
        (["--batch-size", "0"], "--batch-size must be >= 1, got 0"),
        (["--overlap", "1"], r"--overlap must lie in \[0, 0.9\], got 1.0"),
        (["--shifts", "-1"], "--shifts must be >= 0, got -1"),
        (["--device", "tpu"], "device must be one of auto, cpu, cuda, mps"),
    ],
)
def test_a_wrong_option_is_answered_in_a_sentence_with_exit_code_2(capsys, arguments, message):
    assert separate_command([str(write("song.wav")), "--model", "model", "--trust", *arguments]) == 2
    assert re.fullmatch(rf"sepkit-separate: .*{message}.*\n", capsys.readouterr().err)
    assert not Path("separated").exists()


@pytest.mark.parametrize("format", ["mp3", "flac", "flac16", "wav16", "wav24", "ogg"])
def test_other_formats_scale_all_stems_alike_and_say_so(place, capsys, format):  # noqa: A002
    write_model(place / "loud", vocals=4.0, drums=2.0)
    assert separate(str(write("song.wav")), "--format", format, model="loud") == 0
    assert re.search(r"all stems scaled by -\d\.\d\d dB to fit the format; wav keeps them as", capsys.readouterr().out)
    vocals, drums = (next(Path("separated/song").glob(f"{name}.*")) for name in ("vocals", "drums"))
    assert vocals.suffix == f".{format.removesuffix('16').removesuffix('24')}"
    levels = [audio.read(path)[0].square().mean().sqrt() for path in (vocals, drums)]
    assert levels[0] / levels[1] == pytest.approx(2, rel=0.05)


def test_a_truncated_file_gives_what_decodes_and_says_how_much_is_missing(capsys):
    Path("cut.wav").write_bytes(write("song.wav").read_bytes()[: -1000 * 8])
    assert separate("cut.wav") == 0
    assert "the recording is truncated: 1000 samples are missing, 0.62 s decode" in capsys.readouterr().out
    assert audio.read("separated/cut/vocals.wav")[0].shape == (2, 5000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("song.mp3", r"the recording is damaged near sample \d+ \(6\.\d\d s\): 2\d\d\d bytes passed over\n"),
        ("song.ogg", r"the recording is damaged near sample \d+ .*samples missing, \d+ bytes passed over\n"),
        ("song.flac", r"the recording is damaged near sample \d+ .*: \d+ samples replaced by silence\n"),
        ("song.wav", r"the recording: its header declares 1000 samples, \d+ are there and read\n"),
    ],
)
def test_damage_does_not_stop_a_separation_and_is_told_in_one_line(capsys, name, said):
    path = Path(name)
    audio.write(path, torch.rand(2, 100000, generator=torch.Generator().manual_seed(0)) / 4, 8000)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4 if name == "song.wav" else len(content) // 2
    patch = (1000 * 8).to_bytes(4, "little") if name == "song.wav" else bytes(2000)
    content[place : place + len(patch)] = patch
    path.write_bytes(content)
    assert separate(name) == 0
    assert re.search(said, capsys.readouterr().out)
    assert audio.read("separated/song/vocals.wav")[0].shape[1] == audio.probe(path).n_samples


def test_an_output_that_is_a_file_is_a_wrong_call(capsys):
    Path("out").write_text("")
    assert separate(str(write("song.wav")), "--output", "out") == 2
    assert capsys.readouterr().err == "sepkit-separate: the output must be a folder, out is a file: choose another\n"


def test_an_output_that_cannot_be_made_fails_for_each_recording(capsys):
    Path("notes.txt").write_text("a file")
    assert separate(str(write("one.wav")), str(write("two.wav")), "--output", "notes.txt/out") == 1
    reason = r"notes\.txt.out cannot be written to: Not a directory: 'notes\.txt.out'; choose another output"
    assert re.fullmatch(rf"failed: one\.wav: {reason}\nfailed: two\.wav: {reason}\n", capsys.readouterr().err)


@pytest.mark.parametrize(("gain", "code"), [(1.0, 130), (-1.0, 143)])
def test_an_interrupted_separation_leaves_nothing(place, gain, code):
    write_model(place / "stopped", "test_cli.Interrupting", vocals=gain)
    before = signal.getsignal(signal.SIGTERM)
    arguments = (str(write("song.wav")),)
    if code == 130:
        assert separate(*arguments, model="stopped") == code
    else:
        with pytest.raises(SystemExit, match=str(code)):
            separate(*arguments, model="stopped")
    assert signal.getsignal(signal.SIGTERM) is before
    assert not Path("separated").exists()


@pytest.mark.parametrize(
    "command", [[separate_command, "song.wav"], [evaluate_command, "--data", "songs"]], ids=["separate", "evaluate"]
)
@pytest.mark.parametrize("option", [("--batch-size", "0"), ("--overlap", "nan")])
def test_chunks_out_of_range_are_refused_before_a_model_is_looked_for(capsys, command, option):
    assert command[0]([*command[1:], "--model", "nowhere", *option]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"sepkit-\w+: {option[0]} must .*, got {option[1]}\n", err)


def test_an_unforeseen_error_is_called_by_its_name(place, capsys):
    write_model(place / "bad", "test_cli.Breaking")
    assert separate(str(write("song.wav")), model="bad") == 1
    assert capsys.readouterr().err == "sepkit-separate: RuntimeError: a bug (--debug shows where)\n"


def test_debug_shows_where_an_error_comes_from(place):
    write_model(place / "bad", "test_cli.Breaking")
    with pytest.raises(RuntimeError, match="a bug"):
        separate(str(write("song.wav")), "--debug", model="bad")


# The model


def test_code_outside_the_package_is_run_only_with_trust(capsys):
    assert separate_command([str(write("song.wav")), "--model", "model"]) == 2
    assert re.search("'networks.Constant' is not one of sepkit's own .* pass --trust", capsys.readouterr().err)


def test_a_trusted_class_may_lie_in_the_current_folder(place):
    code = (Path(__file__).parent / "networks.py").read_text()
    (place / "networks_here.py").write_text(code)
    write_model(place / "model")
    card = place / "model" / "model.json"
    card.write_text(card.read_text().replace("networks.Constant", "networks_here.Constant"))
    assert separate(str(write("song.wav"))) == 0


def test_the_environment_names_the_model(place, monkeypatch, capsys):
    monkeypatch.setenv("SEPKIT_MODEL", str(place / "model"))
    assert separate_command([str(write("song.wav")), "--trust"]) == 0
    assert f"model {place / 'model'}: vocals, drums" in capsys.readouterr().out


def test_the_newest_finished_run_is_the_model(place, capsys):
    for name, finished, seconds in [("new", "now", 200), ("old", "then", 100), ("newest", None, 300)]:
        write_model(place / "runs" / name, finished=finished)
        os.utime(place / "runs" / name / "model.json", (seconds, seconds))
    (place / "runs" / "damaged").mkdir()
    (place / "runs" / "damaged" / "model.json").write_text("{")
    assert separate_command([str(write("song.wav")), "--trust"]) == 0
    assert "model runs/new: vocals, drums" in capsys.readouterr().out


def test_a_folder_without_model_is_a_wrong_call(capsys):
    assert separate(str(write("song.wav")), model="nowhere") == 2
    assert "nowhere is no model folder: model.json and model.safetensors missing" in capsys.readouterr().err


# Odd files


def is_refused(name: str) -> bool:
    """Say whether not even a part of an odd file can be separated."""
    return "error" in ODD[name] and "allowed" not in ODD[name]


@pytest.mark.parametrize("name", ODD)
def test_each_odd_file_is_separated_or_refused_in_one_sentence(reference_root, place, capfd, name):
    path = reference_root / "audio" / "odd" / name
    if not path.is_file():
        pytest.skip(f"{name} is not among the reference audio")
    network = {"class": "networks.Constant", "gains": [0.5]}
    save_model(Separator(["vocals"], network), place / "voice")
    code = separate(str(path), model="voice")
    out, err = capfd.readouterr()
    if is_refused(name):
        assert code == 1
        assert re.fullmatch(r"failed: [^\n]+\n", err)
        assert name in err
        assert not list(Path().glob("separated/*"))
        return
    assert (code, err) == (0, "")
    stems = [audio.read(f"separated/{path.stem}/{stem}.wav") for stem in ("vocals", "accompaniment")]
    recording, rate = audio.read(path, allow_truncated=True)
    assert {(stem.shape, stem_rate) for stem, stem_rate in stems} == {(recording.shape, rate)}
    torch.testing.assert_close(stems[0][0] + stems[1][0], recording, rtol=1e-6, atol=1e-6)
    assert ("the recording is truncated" in out) == ("allowed" in ODD[name])


def test_the_odd_files_are_separated_in_one_go(reference_root, place, capsys):
    present = [name for name in ODD if (reference_root / "audio" / "odd" / name).is_file()]
    for number, name in enumerate(present):
        (place / "odd" / str(number)).mkdir(parents=True)
        path = reference_root / "audio" / "odd" / name
        shutil.copyfile(path, place / "odd" / str(number) / f"mixture{path.suffix}")
    assert separate("odd", "--stems", "vocals") == 1
    wanted = {str(number) for number, name in enumerate(present) if not is_refused(name)}
    assert {path.name for path in (place / "separated").iterdir()} == wanted
    assert len(capsys.readouterr().err.splitlines()) == len(present) - len(wanted)


# Train


@pytest.fixture
def recipe(place) -> list[str]:
    """The arguments of a short training."""
    for i, name in enumerate(["train/one", "train/two", "valid/three"]):
        write_song(place / "songs" / name, song(i))
    settings = {**RECIPE, "data": {**RECIPE["data"], "root": "songs"}}
    (place / "tiny.yaml").write_text(yaml.dump(settings))
    return ["tiny.yaml", "--device", "cpu"]


def test_a_training_says_where_the_model_lies_and_what_comes_next(recipe, capsys):
    assert train_command(recipe) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "model      runs/tiny/model.safetensors",
        "curves     runs/tiny/history.png",
        "report     runs/tiny/report.html",
        "next       sepkit-separate SONG --model runs/tiny",
    ]
    assert Path("runs/tiny/history.png").read_bytes().startswith(b"\x89PNG")
    assert separate_command(["songs/valid/three/vocals.wav"]) == 0


def test_a_quiet_training_prints_only_the_result(recipe, capsys):
    assert train_command([*recipe, "--quiet", "training.epochs=1"]) == 0
    out = capsys.readouterr()
    assert [line.split()[0] for line in out.out.splitlines()] == ["model", "curves", "report", "next"]
    assert out.err == ""


@pytest.mark.parametrize("arguments", [[], ["--quiet"]])
def test_a_training_without_recipe_is_told_that_it_needs_one_and_nothing_else(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        train_command(arguments)
    assert capsys.readouterr().err.endswith("error: the following arguments are required: RECIPE\n")


def test_overrides_and_options_may_stand_in_any_order(recipe):
    assert train_command(["--run", "out", recipe[0], "training.epochs=1", "--quiet", "training.seed=4"]) == 0
    settings = yaml.safe_load(Path("out/recipe.yaml").read_text())["training"]
    assert (settings["epochs"], settings["seed"]) == (1, 4)


def test_restart_and_from_reach_the_training(recipe):
    assert train_command([*recipe, "--quiet"]) == 0
    first = weights(Path("runs/tiny"))
    frozen = ["training.optimizer.lr=1e-12", "training.epochs=1", "--quiet"]
    assert train_command([*recipe, *frozen, "--run", "second", "--from", "runs/tiny"]) == 0
    for name, tensor in weights(Path("second")).items():
        torch.testing.assert_close(tensor, first[name])
    assert train_command([*recipe, *frozen]) == 2
    assert train_command([*recipe, *frozen, "--restart"]) == 0


def test_a_dry_run_prints_sizes_and_writes_nothing(recipe, capsys):
    before = sorted(Path().rglob("*"))
    assert train_command([*recipe, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "mixture      4 x 2 x 4000" in out
    assert re.search(r"^GPU memory that a step needs: 0\.0 to 0\.7 GB, as estimated$", out, re.MULTILINE)
    assert re.search(r"loss +\d\.\d{4}\n +peak memory +\d+ MB", out)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["training.epoch=3"], 2, "did you mean 'epochs'"),
        (["--data", "nowhere"], 1, "nowhere cannot be used as data: there is no such folder"),
        (["--device", "tpu"], 2, "device must be one of"),
        (["--from", "nowhere"], 2, "nowhere is no model folder"),
        (["training.optimizer={class: SGD, lr: 1.0e30}", "training.clip=null"], 1, "lower the learning rate"),
    ],
)
def test_a_training_that_cannot_be_is_answered_without_traceback(recipe, capsys, arguments, code, message):
    assert train_command([*recipe, *arguments]) == code
    err = capsys.readouterr().err
    assert err.startswith("sepkit-train: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(24, "Too many open files"), "no more files may be open at once: `ulimit -n` allows more"),
        (PermissionError(13, "Permission denied", "songs"), "songs cannot be used: Permission denied, check its perm"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "out of memory: "),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error (--debug shows where)"),
    ],
)
def test_what_the_system_refuses_is_a_failed_job_in_a_sentence(capsys, monkeypatch, error, sentence):
    monkeypatch.setattr("sepkit.cli.separate._separate", lambda _: (_ for _ in ()).throw(error))
    assert separate_command(["song.wav"]) == 1
    assert capsys.readouterr().err.startswith(f"sepkit-separate: {sentence}")


@pytest.mark.filterwarnings("default:observer")
def test_notes_of_observers_are_shown_in_a_line(recipe, capsys):
    Path("stumbling.py").write_text("class Stumbling:\n    def on_step(self, view):\n        raise ValueError('no')\n")
    assert train_command([*recipe, "training.epochs=1", "observers=[{class: stumbling.Stumbling}]"]) == 0
    assert capsys.readouterr().err == "note: observer Stumbling failed and is left out from now on (ValueError: no)\n"


def test_warnings_are_shown_by_python_again_after_a_command(recipe):
    before = warnings.showwarning
    train_command([*recipe, "training.epoch=1"])
    assert warnings.showwarning is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_says_how_to_go_on_and_the_same_command_does(recipe, number, code):
    long = [*recipe, "data.items_per_epoch=200", "training.epochs=2"]
    command = [str(BIN / "sepkit-train"), *long, "observers=[{class: announce.Announce}]"]
    Path("announce.py").write_text("class Announce:\n    def on_step(self, view):\n        print('step', flush=True)\n")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "step\n":
            pass
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == code
    assert err == f"stopped by {signal.Signals(number).name}; everything is saved: the same command goes on from here\n"
    step = stored_state(Path("runs/tiny"))["progress"]["step"]
    assert 1 <= step < 100  # of 2 epochs of 50
    assert train_command([*long, "--quiet"]) == 0
    assert weights(Path("runs/tiny"))


# All commands


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_and_the_version_is_the_package_s(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        COMMANDS[command](["--help"])
    assert f"examples:\n  {command} " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        COMMANDS[command](["--version"])
    assert capsys.readouterr().out == f"sepkit {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_neither_torch_nor_numpy(command):
    program = (
        "import sys; from sepkit import cli\n"
        f"try: cli.{command.partition('-')[2]}_command(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy', 'soundfile'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_a_wrong_call(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        COMMANDS[command](["something", "--colour"])
    assert "--colour" in capsys.readouterr().err


def test_a_model_is_loaded_as_it_was_saved(place):
    assert isinstance(load_model(place / "model", trust=True).network, Constant)


def test_stems_may_go_beside_a_folder_of_recordings_but_not_into_it():
    write("album/one.wav"), write("album/disc/two.wav")
    assert list(find_recordings(["album"], ".")) == ["disc/two", "one"]
    assert list(find_recordings(["album"], "album/stems")) == ["disc/two", "one"]
    with pytest.raises(ValueError, match="album cannot hold the recordings and the stems: choose another output"):
        find_recordings(["album"], "album")


@pytest.mark.parametrize("option", ["--model", "--output"])
def test_a_name_that_is_too_long_is_answered_in_a_sentence(option, capsys):
    write("song.wav")
    given = {"--model": "model", "--output": "out", option: "x" * 300}
    assert separate_command(["song.wav", "--trust", *(word for pair in given.items() for word in pair)]) == 1
    assert capsys.readouterr().err.endswith(" is longer than names can be: give a shorter one\n")
