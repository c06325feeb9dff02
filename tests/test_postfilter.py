"""A postfilter refines what a network estimates: in a separator, a recipe and a model folder, outside of training."""

import json

import numpy as np
import pytest
import torch
from goldens import snr
from imported import build_imported
from networks import Constant
from safetensors.torch import load_file
from torch import Tensor, nn

from sepkit.importing import open_unmix
from sepkit.inference import separate
from sepkit.masks import WienerFilter, wiener
from sepkit.model_folder import load_model, save_model
from sepkit.recipe import RecipeError, load_recipe
from sepkit.separator import Separator

FILTER = {"class": "WienerFilter", "iterations": 1, "window": 30}
LOUDER = {"class": "networks.Constant", "gains": [0.7, 0.2]}


def make(
    postfilter: dict | None = FILTER, network: dict = LOUDER, sources: tuple[str, ...] = ("one", "two")
) -> Separator:
    torch.manual_seed(0)
    transform = {"class": "STFT", "n_fft": 64, "hop_length": 32}
    return Separator(list(sources), network, 8000, 2, 0.5, transform, postfilter).eval()


def sound(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# As published


@pytest.fixture(scope="module")
def openunmix(reference_root) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    folder = reference_root / "goldens" / "models" / "umx_separator"
    if not folder.is_dir():
        pytest.skip("the reference values of Open-Unmix are not there")
    with np.load(folder / "io.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    return load_file(folder / "weights.safetensors"), arrays


@pytest.mark.parametrize(
    ("output", "arguments", "decibels"),
    [
        ("output_niter1", {}, 90),
        ("output_niter2", {"iterations": 2}, 70),  # openunmix' float32 is 70 dB from its float64
        ("output_niter1_win40", {"window": 40}, 90),
        ("output_niter1_soft", {"softmask": True}, 90),
        ("output_niter0_soft", {"softmask": True, "iterations": 0}, 90),
        ("output_niter1_residual", {"residual": True}, 90),
        ("output_niter2_winNone_residual", {"residual": True, "iterations": 2, "window": None}, 70),
    ],
)
def test_a_separator_with_a_filter_gives_what_openunmix_gives(openunmix, output, arguments, decibels):
    tensors, arrays = openunmix
    config = {"sample_rate": 44100, "n_hop": 256, "segment": 6.0, "sources": ["vocals", "drums"]}
    plain = build_imported(open_unmix, tensors, config)
    filtered = Separator(**{**plain.settings, "postfilter": {"class": "WienerFilter", **arguments}}).eval()
    filtered.load_state_dict(plain.state_dict())
    with torch.no_grad():
        found = filtered(arrays["input"])
    assert snr(found, arrays[output][:, :2]) > decibels  # openunmix returns the residual as a third source


@pytest.mark.parametrize(
    ("output", "iterations"), [("output_niter1_residual", 1), ("output_niter2_winNone_residual", 2)]
)
def test_the_residual_of_openunmix_is_what_is_left(openunmix, output, iterations):
    tensors, arrays = openunmix
    config = {"sample_rate": 44100, "n_hop": 256, "segment": 12000 / 44100, "sources": ["vocals", "drums"]}
    settings = build_imported(open_unmix, tensors, config).settings
    postfilter = {"class": "WienerFilter", "residual": True, "iterations": iterations, "window": None}
    model = Separator(**{**settings, "postfilter": postfilter}).eval()
    model.load_state_dict(open_unmix.convert(tensors, settings))
    found = separate(model, arrays["input"][0], stems=["residual"])["residual"]
    assert snr(found, arrays[output][0, 2]) > 35  # the reference lost 1e-3 of the mixture to its regularisation


# In a separator


@pytest.mark.parametrize("grad", [True, False])
def test_estimates_are_filtered_in_evaluation_and_plain_in_training(grad):
    separator, plain = make(), make(None)
    mixture = sound(2, 2, 4000)
    with torch.set_grad_enabled(grad):
        wanted = plain.analyze(mixture)
        refined = wiener(wanted.estimate_spectrogram, wanted.mixture_spectrogram, 1, 30)
        separation = separator.analyze(mixture)
        torch.testing.assert_close(separation.estimate_spectrogram, refined)
        torch.testing.assert_close(separation.estimate_magnitude, refined.abs())
        torch.testing.assert_close(separation.estimate, separator.transform.inverse(refined, 4000))
        assert torch.equal(separator.train()(mixture), plain(mixture))


class Spectra(Constant):
    """Give source s the mixture times `gains[s]`."""

    outputs = ("spectrum",)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return super().forward(mixture_spectrogram) * mixture_spectrogram.unsqueeze(1)


def test_spectra_are_filtered_too():
    mixture = sound(1, 2, 1000)
    spectra = make(network={**LOUDER, "class": "test_postfilter.Spectra"})
    torch.testing.assert_close(spectra(mixture), make()(mixture))


def test_a_filter_is_saved_and_loaded_and_separates_the_same(tmp_path):
    separator = make()
    save_model(separator, tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["separator"]["postfilter"] == FILTER
    loaded, waveform = load_model(tmp_path, trust=True), sound(2, 9000)
    expected, found, plain = (separate(model, waveform) for model in (separator, loaded, make(None)))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(plain["one"], found["one"])


def test_a_card_without_a_filter_is_an_older_one(tmp_path):
    save_model(make(None), tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    del card["separator"]["postfilter"]
    (tmp_path / "model.json").write_text(json.dumps(card))
    assert load_model(tmp_path, trust=True).postfilter is None


def test_one_source_is_filtered_beside_the_residual():
    network = {"class": "networks.Constant", "gains": [0.7]}
    separator = make({**FILTER, "residual": True}, network, ("one",))
    mixture = sound(1, 2, 4000)
    assert separator(mixture).shape == (1, 1, 2, 4000)
    assert not torch.equal(separator(mixture), make(None, network, ("one",))(mixture))


@pytest.mark.parametrize("difference", [0, 1e-4])
def test_channels_that_are_nearly_the_same_are_filtered_as_in_double_precision(difference):
    mixture = 100 * (sound(1, 1, 4000).expand(-1, 2, -1) + difference * sound(1, 2, 4000, seed=1))
    separator = make({**FILTER, "iterations": 3})
    found = separator(mixture)
    assert snr(found, separator(mixture.double()).float()) > 100
    assert snr(found.sum(1), mixture) > 60  # what the regularisation keeps back


def test_items_do_not_depend_on_their_batchmates():
    separator, mixture = make(), sound(3, 2, 2000) * torch.tensor([0.1, 1.0, 100.0])[:, None, None]
    torch.testing.assert_close(separator(mixture), torch.cat([separator(item[None]) for item in mixture]))


@pytest.mark.parametrize(
    ("postfilter", "network", "message"),
    [
        ({"class": "WienerFilter", "iterations": -1}, LOUDER, "iterations must be >= 0, got -1"),
        (
            {"class": "WienerFilter", "window": 0},
            LOUDER,
            "window must be >= 1, got 0",
        ),
        ({"class": "WienerFilter", "iterations": 0}, LOUDER, "iterations must be at least 1 without softmask"),
        (FILTER, {"class": "networks.Filterbank"}, "postfilter.* masks or spectra alone, got one with estimate"),
        (FILTER, {"class": "networks.Hybrid"}, "postfilter.* masks or spectra alone, got one with spectrum, waveform"),
        ({"class": "Wiener"}, LOUDER, "there is no class 'Wiener' in sepkit.masks; did you mean 'WienerFilter'"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(postfilter, network, message):
    with pytest.raises(ValueError, match=message):
        make(postfilter, network)


class FirstSource(nn.Module):
    """Give the first source alone."""

    def forward(self, estimate_spectrogram: Tensor, mixture_spectrogram: Tensor) -> Tensor:  # noqa: ARG002
        return estimate_spectrogram[:, :1]


class Halving(nn.Module):
    """Give half of each estimate."""

    def forward(self, estimate_spectrogram: Tensor, mixture_spectrogram: Tensor) -> Tensor:  # noqa: ARG002
        return 0.5 * estimate_spectrogram


def test_a_filter_from_elsewhere_is_used():
    mixture = sound(1, 2, 1000)
    torch.testing.assert_close(make({"class": "test_postfilter.Halving"})(mixture), 0.5 * make(None)(mixture))


def test_a_filter_that_gives_something_else_is_refused():
    with pytest.raises(
        ValueError, match=r"postfilter must turn estimates, complex \(1, 2, 2, 33, 2\), .* \(1, 1, 2, 33"
    ):
        make({"class": "test_postfilter.FirstSource"})


def test_a_single_source_needs_the_residual():
    with pytest.raises(ValueError, match="residual must be true where there is one source"):
        make(FILTER, {"class": "networks.Constant", "gains": [0.5]}, ("one",))


# In a recipe

RECIPE = {
    "separator": {"sources": ["vocals", "drums"], "network": {"class": "BLSTM", "hidden_size": 8}},
    "data": {"root": "demo"},
    "losses": [{"class": "MagnitudeL1Loss"}],
}


def test_a_recipe_names_a_filter():
    recipe = load_recipe(RECIPE, ["separator.postfilter={class: WienerFilter, iterations: 2}"])
    separator = Separator(**recipe.separator_settings())
    assert isinstance(separator.postfilter, WienerFilter)
    assert separator.postfilter.n_sources == 2
    assert load_recipe(RECIPE).separator.postfilter is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("separator.postfilter={class: WienerFilter, iteration: 2}", r"postfilter.iteration: .*'iterations'"),
        ("separator.postfilter={class: WienerFilter, n_sources: 2}", r"postfilter.n_sources: must be left out"),
        ("separator.postfilter={class: WienerFilter, window: 0}", r"postfilter\.window: must be >= 1"),
        ("separator.network={class: networks.Hybrid}", "postfilter: needs a network that estimates masks or spectra"),
    ],
)
def test_a_recipe_with_a_filter_that_cannot_be_is_refused(override, message):
    recipe = {**RECIPE, "separator": {**RECIPE["separator"], "postfilter": FILTER}}
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, [override])
