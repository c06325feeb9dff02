"""Every block of the pages in docs/ is run: shell, Python and YAML, page by page; trainings are shortened.

A block that no test can run stands below `<!-- not run: reason -->`. The Python blocks of losses.md are run by
test_losses_examples.py.
"""

import pkgutil
import re
import shlex
import subprocess
import sys
import zlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import getdoc
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile
import yaml
from published import write_examples
from songs import noise, write_song

import sepkit
from sepkit.cli import data_command, evaluate_command, model_command, separate_command, train_command
from sepkit.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NO_PAGES = {"_build", "tables"}  # tables are parts of pages
PAGES = sorted(page for page in DOCS.rglob("*.md") if NO_PAGES.isdisjoint(page.parts))
COMMANDS = {
    "sepkit-data": data_command,
    "sepkit-train": train_command,
    "sepkit-separate": separate_command,
    "sepkit-evaluate": evaluate_command,
    "sepkit-model": model_command,
}
STEMS = ("vocals", "drums", "bass", "other")
SHORT = ["data.items_per_epoch=2", "data.workers=0", "training.batch_size=2", "training.epochs=1"]
SHORT += ["separator.segment=0.5", "validation.excerpt=1"]
SMALL = ["separator.network.hidden_size=8"]  # where the network is known to have it
NOT_RUN = {
    "needs a CUDA machine",
    "needs other packages",
    "needs the network",
    "starts several processes",
    "trains for an hour",
}  # reasons for which blocks are not run
REFERENCE = ("auralflow", "losses", "models", "datasets", "metrics", "plots", "masks", "transforms", "observers")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    reason: str

    @property
    def file(self) -> str | None:
        """The name in the first line, `# name.py`, where it is a file of the reader's."""
        found = re.match(r"# ([\w]+\.(?:py|yaml))\n", self.text)
        return found and found[1]


def blocks_of(page: Path) -> list[Block]:
    pattern = r"(?:<!-- not run: ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$"
    found = re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(language, text, reason) for reason, language, text in found]


def commands_of(page: Path) -> list[list[str]]:
    lines = [line for block in blocks_of(page) if block.language == "sh" for line in block.text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Songs, recordings, models and evaluations that the pages speak of."""
    folder = tmp_path_factory.mktemp("material")
    for i, name in enumerate(("train/one", "train/two", "train/three", "test/four")):
        stems = {stem: noise(10 * i + k, 2 * 44100) for k, stem in enumerate(STEMS)}
        write_song(folder / "my_songs" / name, stems, rate=44100)
    write_song(folder / "estimates" / "four", {name: noise(90, 2 * 44100) for name in STEMS[:2]}, rate=44100)
    (folder / "separated").symlink_to("estimates")
    (folder / "album").mkdir()
    soundfile.write(folder / "song.mp3", noise(92, 44100), 44100)
    soundfile.write(folder / "album" / "track.wav", noise(93, 44100), 44100)
    for recipe, run in (("vocals", "vocals"), ("four_stems", "four")):
        arguments = [recipe, "--data", str(folder / "my_songs"), "--run", str(folder / "runs" / run), "--quiet"]
        assert train_command([*arguments, *SHORT, *SMALL]) == 0
    (folder / "runs" / "mine").symlink_to("vocals")
    write_examples(folder)
    songs = ["--estimates", str(folder / "estimates"), "--data", str(folder / "my_songs"), "--metrics", "uSDR"]
    for name in ("first", "second"):
        assert evaluate_command([*songs, "--no-baselines", "--output", str(folder / "evaluation" / name)]) == 0
    for alias in ("musdb18", "musdb18hq"):
        (folder / alias).symlink_to("my_songs")
    return folder


@pytest.fixture
def workplace(material, tmp_path, tmp_path_factory, monkeypatch, page):
    """A folder with the material, and without the runs and stems that the page itself makes."""
    said = {word for words in commands_of(page) for word in words}
    made = {after for words in commands_of(page) for word, after in pairwise(words) if word in ("--run", "--output")}
    made |= {"separated"} if "sepkit-separate" in said else set()
    (tmp_path / "runs").mkdir()
    (tmp_path / "evaluation").mkdir()
    for path in [*material.iterdir(), *material.glob("runs/*"), *material.glob("evaluation/*")]:
        place = path.relative_to(material)
        if str(place) not in (*made, "runs", "evaluation"):
            (tmp_path / place).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path_factory.getbasetemp() / "demo-songs"))
    monkeypatch.setenv("SEPKIT_DEMO_SCALE", "0.001")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


def run_command(words: list[str]) -> None:
    if words[0] == "make":
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    shortened = []
    if words[0] == "sepkit-train":
        shortened = [*SHORT, *([] if words[1].endswith(".yaml") else SMALL)]
    assert COMMANDS[words[0]]([*words[1:], *shortened]) == 0, shlex.join(words)


def check_recipe(text: str) -> None:
    """Check a recipe, or what is one together with the rest of `vocals`."""
    given = yaml.safe_load(text)
    whole = yaml.safe_load((ROOT / "recipes" / "vocals.yaml").read_text())
    load_recipe(given if "separator" in given else {**whole, **given})


def run_block(block: Block, page: Path) -> None:
    if block.file:
        Path(block.file).write_text(block.text)
    if block.language == "sh":
        for line in block.text.splitlines():
            if words := shlex.split(line, comments=True):
                run_command(words)
    elif block.language == "python":
        exec(compile(block.text, str(page), "exec"), {"__name__": "page"})
    elif block.language == "yaml":
        check_recipe(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
@pytest.mark.filterwarnings("ignore:component loss")
def test_the_blocks_of_a_page_run(page, request):
    blocks = [block for block in blocks_of(page) if block.language != "text"]
    if page.name == "losses.md":
        blocks = [block for block in blocks if block.language != "python"]
    unknown = {block.language for block in blocks} - {"sh", "python", "yaml"}
    assert not unknown, "a block is sh, python, yaml or text"
    if blocks:
        request.getfixturevalue("workplace")
    for block in blocks:
        if not block.reason:
            run_block(block, page)


def test_what_is_not_run_says_why():
    assert {block.reason for page in PAGES for block in blocks_of(page) if block.reason} == NOT_RUN


def public_modules() -> set[str]:
    return {name for _, name, _ in pkgutil.iter_modules(sepkit.__path__) if not name.startswith("_") and name != "cli"}


def public_names(module: str) -> list[str]:
    home = import_module(f"sepkit.{module}")
    own = [name for name, value in vars(home).items() if getattr(value, "__module__", "") == home.__name__]
    return [name for name in getattr(home, "__all__", own) if not name.startswith("_")]


def place_of(module: str, name: str) -> str:
    """Return under which name something is described: auralflow's names in its room, and no others there."""
    of_auralflow = getattr(import_module(f"sepkit.{module}"), name).__module__.startswith("sepkit.auralflow.")
    if of_auralflow:
        return f"sepkit.auralflow.{name}"
    return "" if module == "auralflow" else f"sepkit.{module}.{name}"


def test_the_reference_has_every_module():
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    listed = set(re.findall(r"automodule:: sepkit\.(\w+)\n", pages))
    assert listed == public_modules()


@pytest.mark.parametrize("module", REFERENCE)
def test_the_reference_has_every_public_name(module):
    """Those with a docstring are there; imported ones where the page asks for them."""
    pages = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    home = import_module(f"sepkit.{module}")
    imported = ":imported-members:" in re.search(rf"automodule:: sepkit\.{module}\n(.*)", pages)[1]
    assert imported == hasattr(home, "__all__")
    assert not [name for name in public_names(module) if not getdoc(getattr(home, name))]


@pytest.mark.parametrize("name", sepkit.__all__)
def test_the_reference_begins_with_what_a_user_meets_first(name):
    assert f"`sepkit.{name}" in (DOCS / "api" / "index.md").read_text()


def linked_from(page: Path) -> set[Path]:
    links = re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8"))
    return {(page.parent / link).resolve() for link in links if "://" not in link} - {page}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_another_page_leads_to_a_page(page):
    api = DOCS / "api" in page.parents and page.name != "index.md"  # in the list of api/index.md
    assert page == DOCS / "index.md" or api or any(page in linked_from(other) for other in PAGES)


@pytest.mark.skipif(find_spec("sphinx") is None, reason="Sphinx is not installed: make docs")
def test_the_pages_build_without_a_warning_and_the_reference_is_complete(tmp_path):
    options = ["-q", "-W", "--keep-going", "-D", "nb_execution_mode=off"]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    compressed = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4]  # after four lines of comment
    listed = {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}
    wanted = {place for module in REFERENCE for name in public_names(module) if (place := place_of(module, name))}
    assert not wanted - listed


AURALFLOW = """
component_loss kl_div_loss si_sdr_loss ComponentLoss KLDivergenceLoss SISDRLoss L1Loss L2Loss MaskLoss RMSE
get_evaluation_metrics _forward_wrapper SeparationModel SpectrogramMaskModel SpectrogramNetSimple SpectrogramNetLSTM
SpectrogramNetVAE AudioNet HybridNet AudioFolder AudioDataset create_audio_folder create_audio_dataset load_stems
verify_dataset AudioTransform to_spectrogram to_audio to_mel_scale to_decibel audio_to_mel pad_audio trim_audio
_get_num_stft_frames ModelTrainer TrainingCallback CallbackManager LossCallback LayersVisualCallback
WaveformVisualCallback SpectrogramVisualCallback AudioPlayerCallback _DefaultModelTrainer spec_show_diff
waveform_show_diff TrainingVisualizer config_visualizer ProgressBar create_progress_bar auralflow_test test.main
pretrained.load models.load auralflow_download auralflow_config auralflow_train auralflow_separate
--model-type --display --max-tracks --max-samples --resume --use-amp --scale-grad --clip-grad --lr --lr-lstm
--init-scale --max-grad-norm --max-plateaus --stop-patience --min-delta --max-epochs --batch-size --num-workers
--persistent-workers --pin-memory --pre-fetch --criterion --construction-loss --reduction --best-perm --alpha --beta
--tensorboard --view-norm --view-epoch --view-iter --view-grad --view-weights --view-spec --view-wave --play-estimate
--play-residual --image-freq --silent --residual --duration --sr --padding --save AudioModelConfig SpecModelConfig
CriterionConfig VisualsConfig TrainingConfig from_dict load_config init_model setup_model train_ddp.py
--num-channels --sample-length --sample-rate --num-fft --window-size --hop-length --num-hidden-channels --dropout-p
--leak-factor --normalize-input --normalize-output --recurrent-depth --hidden-size --input-axis --mask-act-fn
num_hidden_channels leak_factor dropout_p normalize_input normalize_output recurrent_depth hidden_size input_axis
num_fft_bins num_frames
mask_act_fn sample_length num_fft window_size hop_length sample_rate num_channels trainer.json model.json
mix_spec estimate_spec target_spec estimate_audio target_audio .model .targets .device _split_params _get_deconv_pad
_get_conv_pad _get_conv_shape _get_stft _fast_fourier _inverse_fast_fourier _make_hann_window full_forward
scheduler_step add_callback on_iteration_end on_loss_end on_epoch_start on_epoch_end _create_callbacks --target
checkpoint.pth runs/ spectrogram/ waveform/ separated_audio/<track>/ model_type input_type construction_loss image_dir
image_freq logging_dir PrettyTable config.json model_params dataset_params training_params visualizer_params
SM_HPS SM_OUTPUT_DATA_DIR
"""


@pytest.mark.parametrize("name", [re.sub("^auralflow_", "auralflow ", name) for name in AURALFLOW.split()])
def test_the_way_from_auralflow_is_told(name):
    assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", (DOCS / "from_auralflow.md").read_text())
