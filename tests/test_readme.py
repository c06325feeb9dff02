"""Everything that the README shows is run, in its order, in one folder; trainings are shortened."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import soundfile
import yaml
from published import write_examples
from songs import noise, write_song

from sepkit.cli import data_command, evaluate_command, model_command, separate_command, train_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = {
    "sepkit-train": train_command,
    "sepkit-separate": separate_command,
    "sepkit-evaluate": evaluate_command,
    "sepkit-model": model_command,
    "sepkit-data": data_command,
}
SHORT = ["data.items_per_epoch=4", "data.workers=0", "training.batch_size=2", "training.epochs=1"]
SHORT += ["separator.segment=0.5", "separator.network.hidden_size=16"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the songs and recordings that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    for i, name in enumerate(("train/one", "train/two", "train/three", "test/four")):
        stems = {stem: noise(10 * i + k, 2 * 44100) for k, stem in enumerate(("vocals", "drums", "bass", "other"))}
        write_song(folder / "my_songs" / name, stems, rate=44100)
    estimates = {"vocals": noise(90, 2 * 44100), "drums": noise(91, 2 * 44100)}
    write_song(folder / "estimates" / "four", estimates, rate=44100)
    (folder / "album").mkdir()
    soundfile.write(folder / "song.mp3", noise(92, 44100), 44100)
    soundfile.write(folder / "album" / "track.wav", noise(93, 44100), 44100)
    write_examples(folder)
    return folder


def run_commands() -> None:
    """Run the README's commands in the current folder, trainings shortened."""
    for words in commands():
        if words[0] == "make":
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
            continue
        shortened = SHORT if words[0] == "sepkit-train" else []
        assert COMMANDS[words[0]]([*words[1:], *shortened]) == 0, shlex.join(words)


def test_what_the_readme_shows_runs(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    run_commands()
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert (workplace / "separated" / "song" / "vocals.wav").is_file()
    assert (workplace / "stems" / "track" / "accompaniment.flac").is_file()
    assert (workplace / "evaluation" / "mine" / "scores.csv").is_file()


def test_the_network_loss_and_yaml_of_the_readme_train(workplace, tmp_path):
    network, loss = (block for block in blocks("python") if "class " in block)
    (tmp_path / "my_networks.py").write_text(network)
    (tmp_path / "my_losses.py").write_text(loss)
    recipe = yaml.safe_load((ROOT / "recipes" / "vocals.yaml").read_text())
    recipe["separator"]["network"] = {"class": "my_networks.Gate"}
    recipe["losses"] = [*yaml.safe_load(blocks("yaml")[0])["losses"], {"class": "my_losses.HalfwayLoss"}]
    (tmp_path / "mine.yaml").write_text(yaml.dump(recipe))
    arguments = [str(tmp_path / "mine.yaml"), "--data", str(workplace / "my_songs"), "--run", str(tmp_path / "run")]
    assert train_command([*arguments, *SHORT[:-1]]) == 0


def test_the_picture_and_the_links_of_the_readme_exist():
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", README)]
    assert not [path for path, _, _ in links if not (ROOT / path).exists()]
    for path, _, heading in links:
        assert not heading or f"\n## {heading.capitalize()}\n" in (ROOT / path).read_text(), f"{path}#{heading}"
