"""BandSplitRoFormer gives what the published RoFormers give, from their weights, and says what does not fit."""

import re

import pytest
import torch
from goldens import read_golden, snr
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sepkit.importing import band_split_roformer as family
from sepkit.losses import MultiResolutionComplexSTFTLoss
from sepkit.models import BandSplitRoFormer, _transformers
from sepkit.models._attention import Attention, ChannelAttention, Places, turn
from sepkit.models._band_layouts import GatherBands, ScatterBands, consecutive_bands, overlapping_mel_bands
from sepkit.separator import Separator

GOLDENS = ["bs_roformer", "bs_roformer_6stem", "bs_roformer_pope", "bs_roformer_value_residual", "mel_band_roformer"]
PAPER = [2] * 24 + [4] * 12 + [12] * 8 + [24] * 8 + [48] * 8 + [128, 129]  # bins of BS-RoFormer's bands
SMALL = {"hidden_size": 8, "n_layers": 2, "n_heads": 2, "head_size": 4, "n_mask_layers": 2}
VARIANTS = {
    "BS": {"bands": [2] * 12 + [9], "norm": "last"},
    "polar": {"bands": [2] * 12 + [9], "norm": "last", "positions": "polar"},
    "mel": {"bands": 6, "n_mask_layers": 3, "mask_expansion": 1},
    "all": {"bands": 6, "value_residual": True, "skip_connections": True, "n_channel_layers": 1, "n_time_layers": 2},
    "plain masks": {"bands": 6, "n_mask_layers": 1, "zero_dc": False, "n_band_layers": 2},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


class Published:
    """A published network with random weights, its config in the form in which such files travel."""

    def __init__(self, root, name: str):
        golden = read_golden(root, name)
        self.tensors, self.input = golden.tensors, golden.input
        self.output = golden.output if golden.output.dim() == 4 else golden.output[:, None]
        self.losses = golden.config.get("loss_check")
        self.config = {
            "audio": {"chunk_size": 44100, "sample_rate": golden.config["sample_rate"], "num_channels": 2},
            "model": dict(golden.config["kwargs"]),
            "training": {"instruments": golden.config.get("stems", ["vocals"]), "target_instrument": None},
        }

    def put(self, key: str, value: object) -> None:
        section, _, name = key.partition(".")
        self.config.setdefault(section, {})[name] = value

    def settings(self) -> dict:
        return family.settings(self.tensors, self.config)

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return family.convert(tensors, self.settings())

    def separator(self) -> Separator:
        assert family.detect(self.tensors)
        separator = Separator(**self.settings()).eval()
        separator.load_state_dict(self.convert(self.tensors))
        return separator

    @torch.no_grad()
    def error(self) -> float:
        found = self.separator()(self.input)
        assert found.shape[-1] == self.input.shape[-1]
        return snr(found[..., : self.output.shape[-1]], self.output)


@pytest.fixture
def published(request, reference_root) -> Published:
    return Published(reference_root, getattr(request, "param", "bs_roformer"))


def golden(*names: str):
    return pytest.mark.parametrize("published", names, indirect=True)


def build(variant: str = "BS", **arguments) -> BandSplitRoFormer:
    torch.manual_seed(0)
    facts = {"n_sources": 2, "n_channels": 2, "n_bins": 33, "sample_rate": 16000}
    return BandSplitRoFormer(**{**facts, **SMALL, **VARIANTS[variant], **arguments}).eval()


def noise(n_frames: int = 7, n_channels: int = 2, n_items: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_items, n_channels, 33, n_frames, dtype=torch.complex64, generator=generator)


# As published


@golden(*GOLDENS)
def test_it_gives_what_the_published_network_gives(published):
    assert published.error() > 90


@golden("bs_roformer", "mel_band_roformer")
def test_an_item_is_separated_the_same_beside_others_and_with_gradients(published):
    separator = published.separator()
    with torch.no_grad():
        alone = separator(published.input)
    # In one piece and with the gradient's operations, sums of float32 have another order.
    both = separator(torch.cat([published.input, 0.1 * published.input.flip(-1)]))
    assert snr(both[:1].detach(), alone) > 90


@golden("bs_roformer", "bs_roformer_pope")
def test_the_losses_of_what_was_published_are_as_published(published):
    target = 0.6 * published.input.roll(37, -1).flip(1).unsqueeze(1)
    assert (target - published.output).abs().mean().item() == pytest.approx(published.losses["time_l1"], rel=1e-5)
    loss = MultiResolutionComplexSTFTLoss(n_fft=published.config["model"]["stft_n_fft"])
    terms = loss.terms(published.output.flatten(0, 1), target.flatten(0, 1))
    assert sum(terms.values()).item() == pytest.approx(published.losses["multi_stft_l1"], rel=1e-5)


@pytest.mark.parametrize(
    ("sizes", "millions"),
    [
        ({"hidden_size": 128}, 13.6),
        ({"hidden_size": 384}, 74.5),
        ({"hidden_size": 384, "n_layers": 12}, 98.2),
        ({"hidden_size": 512, "n_layers": 12}, 159.8),
        ({"hidden_size": 384, "n_layers": 8, "n_sources": 4, "mask_expansion": 2}, 131.7),
        ({"hidden_size": 384, "bands": 60, "norm": "each", "n_mask_layers": 3}, 228.2),
        ({"hidden_size": 192, "n_layers": 8, "bands": 60, "norm": "each", "n_mask_layers": 3}, 69.1),
    ],
)
def test_it_has_as_many_parameters_as_the_published_sizes(sizes, millions):
    facts = {"n_sources": 1, "n_channels": 2, "n_bins": 1025, "sample_rate": 44100, "bands": PAPER}
    facts |= {"norm": "last", "n_mask_layers": 2}
    with torch.device("meta"):
        network = BandSplitRoFormer(**{**facts, **sizes})
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


# What tensors and config say


def test_settings_are_those_of_the_tensors_and_the_config(published):
    settings = family.settings(published.tensors, published.config)
    assert settings["segment"] == 1.0
    assert settings["transform"]["hop_length"] == 147
    assert settings["network"]["attention_dropout"] == 0.1
    kept = {"stft_n_fft", "stft_hop_length", "stft_win_length", "zero_dc", "attn_dropout", "ff_dropout"}
    published.config["model"] = {key: value for key, value in published.config["model"].items() if key in kept}
    published.put("audio.num_channels", None)
    assert family.settings(published.tensors, published.config) == settings
    published.put("inference.chunk_size", 88200)
    assert family.settings(published.tensors, published.config)["segment"] == 2.0
    published.put("training.target_instrument", "drums")
    assert family.settings(published.tensors, published.config)["sources"] == ["drums"]


@golden("mel_band_roformer")
def test_the_masks_of_mel_bands_may_have_been_counted_as_they_once_were(published):
    settings = family.settings(published.tensors, published.config)
    published.put("model.mask_estimator_depth", 3)
    assert family.settings(published.tensors, published.config) == settings
    published.put("model.mask_estimator_depth", 1)
    with pytest.raises(ValueError, match=r"model\.mask_estimator_depth must be 3, as the tensors have it, got 1"):
        family.settings(published.tensors, published.config)


@golden("bs_roformer_value_residual")
def test_with_value_residuals_the_bin_at_0_hz_is_kept(published):
    assert not family.settings(published.tensors, published.config)["network"]["zero_dc"]


CONFLICTS = {
    "model.dim": (16, "model.dim must be 12, as the tensors have it, got 16 in the config"),
    "model.depth": (6, "model.depth must be 2, as the tensors have it, got 6"),
    "model.num_stems": (4, "model.num_stems must be 1, as the tensors have it, got 4"),
    "model.heads": (8, "model.heads must be 2, as the tensors have it, got 8"),
    "model.dim_head": (64, "model.dim_head must be 8, as the tensors have it, got 64"),
    "model.time_transformer_depth": (2, "model.time_transformer_depth must be 1, .* got 2"),
    "model.freq_transformer_depth": (2, "model.freq_transformer_depth must be 1, .* got 2"),
    "model.linear_transformer_depth": (1, "model.linear_transformer_depth must be 0, .* got 1"),
    "model.use_pope": (True, "model.use_pope must be False, as the tensors have it, got True"),
    "model.mlp_expansion_factor": (4, "model.mlp_expansion_factor must be 2, as the tensors have it, got 4"),
    "model.mask_estimator_depth": (1, "model.mask_estimator_depth must be 2, as the tensors have it, got 1"),
    "model.freqs_per_bands": ([257], r"model.freqs_per_bands must be \[2, 2, .*\], .* got \[257\]"),
    "model.num_bands": (60, "model.num_bands must not be stated, since the tensors are BS-RoFormer's"),
    "model.stft_n_fft": (2048, "model.stft_n_fft must fit the bands of the tensors, 8, 8, .* got 2048 at 44100 Hz"),
    "model.stereo": (False, "model.stereo must be True, as the tensors have it, got False"),
    "model.use_mamba": (True, "model.use_mamba of the config is of a variant that is not supported"),
    "audio.num_channels": (1, "audio.num_channels must be 2, as the tensors have it, got 1"),
    "training.instruments": (["a", "b"], "training must name 1 sources, as the tensors have it, got a, b"),
}


@pytest.mark.parametrize(("key", "value", "message"), [(key, *rest) for key, rest in CONFLICTS.items()])
def test_a_config_that_contradicts_the_tensors_is_refused(published, key, value, message):
    published.put(key, value)
    with pytest.raises(ValueError, match=message):
        family.settings(published.tensors, published.config)


def test_a_variant_that_is_switched_off_changes_nothing(published):
    plain = family.settings(published.tensors, published.config)
    published.put("model.use_value_residual_learning", False)
    assert family.settings(published.tensors, published.config) == plain


@golden("mel_band_roformer")
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.num_bands", 60, "model.num_bands must be 20, as the tensors have it, got 60"),
        ("model.sample_rate", 48000, "model.sample_rate must be 44100, as audio.sample_rate of the config has it"),
        ("model.stft_n_fft", 1024, "model.stft_n_fft must fit the bands of the tensors, 20, 16, .* got 1024 at 44100"),
        ("model.freqs_per_bands", [257], "model.freqs_per_bands must not be stated, since the tensors are Mel-Band"),
    ],
)
def test_a_config_of_other_mel_bands_is_refused(published, key, value, message):
    published.put(key, value)
    with pytest.raises(ValueError, match=message):
        family.settings(published.tensors, published.config)


@pytest.mark.parametrize(
    "key",
    [
        *(f"model.{key}" for key in ("stft_n_fft", "stft_hop_length", "stft_win_length", "zero_dc")),
        *("audio.sample_rate", "audio.chunk_size", "training.instruments"),
    ],
)
def test_what_the_tensors_cannot_tell_is_asked_for(published, key):
    published.put(key, None)
    with pytest.raises(ValueError, match=f"config must state {key}, which the tensors cannot tell"):
        family.settings(published.tensors, published.config)


# Tensors


def test_a_tensor_too_many_or_too_few_is_named(published):
    lacking = {name: tensor for name, tensor in published.tensors.items() if name != "final_norm.gamma"}
    with pytest.raises(ValueError, match=r"layers\.0\.0\.norm\.gamma is missing, .*layers\.1\.1\.norm\.gamma is miss"):
        published.convert(lacking)
    lacking = {name: tensor for name, tensor in published.tensors.items() if not name.endswith("to_features.3.1.bias")}
    with pytest.raises(ValueError, match=r"one for one: band_split.to_features.3.1.bias is missing, mean is too many$"):
        published.convert({**lacking, "mean": torch.ones(1)})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("final_norm.gamma", (11,), r"final_norm.gamma must fit core.norm.gain, \(12,\), .* got \(11,\)"),
        ("layers.1.0.layers.0.0.to_qkv.weight", (47, 12), r"to_qkv.weight must fit .*, \(48, 12\), .* got \(47, 12\)"),
        ("layers.0.0.layers.0.0.to_qkv.weight", (47, 12), r"to_qkv.weight must have a multiple of 12 rows, got 47"),
        ("band_split.to_features.3.1.bias", (1,), r"to_features.0.1.bias must fit .* got \(12,\) and \(1,\)"),
        ("mask_estimators.0.to_freqs.0.0.0.weight", (25, 12), "weight must have a multiple of 12 rows, got 25"),
    ],
)
def test_a_tensor_of_another_shape_is_named(published, name, shape, message):
    with pytest.raises(ValueError, match=message):
        published.convert({**published.tensors, name: torch.ones(shape)})


@golden("bs_roformer_6stem")
def test_biases_without_effect_are_taken_only_if_they_are_zero(published):
    for name in ("shared_qkv_bias", "layers.0.0.layers.0.0.to_out.0.bias"):
        changed = {**published.tensors, name: torch.ones_like(published.tensors[name])}
        with pytest.raises(ValueError, match=f"{name} must be zero"):
            published.convert(changed)
    assert {tensor.dtype for tensor in published.convert(published.tensors).values()} == {torch.float32}


def test_frequencies_that_differ_between_layers_are_refused(published):
    name = "layers.1.0.layers.0.0.rotary_embed.freqs"
    with pytest.raises(ValueError, match="frequencies of positions must be the same in all layers of an axis"):
        published.convert({**published.tensors, name: published.tensors[name] * 2})


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("layers.0.0.layers.0.0.branch.norm.gamma", "hyper-connections"),
        ("layers.1.0.layers.0.0.learned_value_residual_mix", "value residuals of the linear attention"),
        ("mask_estimators.0.segm.conv.weight", "HyperACE masks"),
        ("mask_estimators.0.layers.0.weight", "transformers in the mask estimators"),
    ],
)
def test_a_variant_that_is_not_supported_is_refused_by_its_name(published, name, variant):
    tensors = {**published.tensors, name: torch.ones(1)}
    assert family.detect(tensors)
    for refuse in (published.convert, lambda tensors: family.settings(tensors, published.config)):
        with pytest.raises(ValueError, match=f"a RoFormer with {variant} is not supported; {re.escape(name)} is of"):
            refuse(tensors)


def test_other_tensors_are_not_detected():
    assert not family.detect({"first_conv.weight": torch.ones(1)})
    assert not family.detect({"band_split.to_features.0.0.gamma": torch.ones(1)})


def test_a_linear_transformer_is_imported(published):
    """Put one before each block whose last layers are zero, so that it changes nothing."""
    tensors, generator = {}, torch.Generator().manual_seed(0)
    for name, tensor in published.tensors.items():
        moved = re.sub(r"^(layers\.\d\.)(\d)", lambda match: f"{match[1]}{int(match[2]) + 1}", name)
        tensors[moved] = tensor
        if re.match(r"layers\.\d\.0\.", name) and not re.search("rotary|gates", name):
            added = re.sub(r"to_(qkv|out\.0)\.", lambda match: f"to_{ {'qkv': 'qkv.0'}.get(match[1], 'out.1') }.", name)
            silent = re.search(r"to_out|net\.4", added)
            tensors[added] = 0 * tensor if silent else torch.randn(tensor.shape, generator=generator)
    for block in range(2):
        tensors[f"layers.{block}.0.layers.0.0.temperature"] = torch.ones(2, 1, 1)
    published.tensors = tensors
    published.put("model.linear_transformer_depth", 1)
    assert published.separator().network.core.layers[0].channels is not None
    assert published.error() > 90
    for name in [name for name in tensors if re.search(r"\.0\.layers\.0\.0\.to_out\.1", name)]:
        tensors[name] = torch.randn(tensors[name].shape, generator=generator)
    assert published.error() < 90


# The parts, from their formulas


def test_attention_is_that_of_complex_pairs():
    torch.manual_seed(0)
    attention, tokens = Attention(6, 2, 4).eval(), torch.randn(3, 5, 6)
    nn.init.uniform_(attention.norm.gain)
    normed = tokens / tokens.norm(dim=-1, keepdim=True) * 6**0.5 * attention.norm.gain
    queries, keys, values = attention.to_heads(normed).unflatten(-1, (3, 2, 4)).unbind(2)  # (Q, L, H, E)
    turns = torch.exp(1j * torch.arange(5)[:, None, None] * torch.tensor([1.0, 0.01]))
    queries, keys = (torch.view_as_complex(part.unflatten(-1, (2, 2)).contiguous()) * turns for part in (queries, keys))
    weights = torch.softmax(torch.einsum("qihe,qjhe->qhij", queries, keys.conj()).real / 2, -1)
    heads = torch.einsum("qhij,qjhe->qihe", weights, values) * torch.sigmoid(attention.gate(normed))[..., None]
    found, found_values = attention(tokens, Places(4, "rotary")(5, tokens), None)
    torch.testing.assert_close(found, attention.output[0](heads.flatten(2)))
    torch.testing.assert_close(found_values, values)


def test_channel_attention_is_its_formula():
    torch.manual_seed(0)
    attention, tokens = ChannelAttention(6, 2, 4).eval(), torch.randn(3, 5, 6)
    normed = tokens / tokens.norm(dim=-1, keepdim=True) * 6**0.5
    queries, keys, values = attention.to_heads(normed).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 4, 1).unbind(0)
    queries, keys = (part / part.norm(dim=-1, keepdim=True) for part in (queries, keys))
    weights = torch.softmax(queries @ keys.mT * 8 * torch.e, -1)
    expected = attention.output((weights @ values).permute(0, 3, 1, 2).flatten(2))
    torch.testing.assert_close(attention(tokens), expected)


def test_skip_connections_add_the_output_of_every_earlier_block():
    network = build("mel", skip_connections=True, n_layers=3)
    core, seen = network.core, []
    for block in core.layers:
        block.time.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
        block.bands.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[0]))
    network(noise(n_items=1))
    _, first, second_in, second, third_in, _ = (
        part if part.shape[1] == 7 else part.transpose(0, 1) for part in seen
    )  # (K, N, D)
    torch.testing.assert_close(second_in, 2 * first)
    torch.testing.assert_close(third_in, first + 2 * second)


def test_the_gradient_of_a_turn_is_a_turn_back():
    angles = torch.randn(3, 2, dtype=torch.float64)
    heads = torch.randn(2, 3, 2, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(turn, (heads, angles))
    assert torch.autograd.gradgradcheck(turn, (heads, angles))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_compiler_is_given_the_same_turn_in_real_numbers(dtype, monkeypatch):
    angles, heads = torch.randn(3, 2), torch.randn(2, 3, 2, 2, 4).to(dtype)
    angles = angles.double() if dtype is torch.float64 else angles
    expected = turn(heads, angles)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    found = turn(heads, angles)
    assert found.dtype is expected.dtype is dtype
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("positions", ["rotary", "polar"])
def test_attention_depends_on_distances_alone(positions):
    torch.manual_seed(0)
    attention, tokens = Attention(6, 2, 4, positions).double().eval(), torch.randn(1, 5, 6, dtype=torch.float64)
    if attention.phases is not None:
        nn.init.uniform_(attention.phases, -2, 0)
    angles = Places(4, positions)(25, tokens)
    near, far = (attention(tokens, angles[start : start + 5], None)[0] for start in (0, 20))
    torch.testing.assert_close(near, far)
    assert not torch.allclose(near, attention(tokens.flip(1), angles[:5], None)[0].flip(1))  # and on what comes first


def test_places_are_kept_in_checkpoints_and_never_rounded():
    network = build()
    name = "core.time_places.frequencies.values"
    assert name in network.state_dict()
    before = network.state_dict()[name].clone()
    assert torch.equal(network.bfloat16().float().state_dict()[name], before)


# Bands


def test_mel_bands_are_as_published():
    layout = overlapping_mel_bands(60, 1025, 44100)
    assert layout.widths[:3] == [7, 6, 6]
    assert layout.widths[-2:] == [122, 130]
    assert sorted(set(layout.bins)) == list(range(1025))
    assert max(layout.bins.count(one) for one in range(1025)) == 2


@pytest.mark.parametrize("layout", [consecutive_bands([2, 1, 2, 4], 9), overlapping_mel_bands(3, 9, 16000)])
def test_bins_come_back_from_their_bands(layout):
    spectrogram = torch.randn(2, 3, 9, 5, 2)
    groups = GatherBands(layout)(spectrogram)
    assert [len(group) for group in groups] == [len(group) for group in layout.groups]
    # The mean of equal values is theirs but for a rounding.
    torch.testing.assert_close(ScatterBands(layout, 3)(groups, 2), spectrogram)


@pytest.mark.parametrize("norm", ["each", "last"])
def test_a_band_sees_its_own_bins_until_it_attends_to_others(norm):
    network, changed = build(norm=norm), noise()
    changed[:, :, 4:6] += 1
    before, after = (network.core.split(torch.view_as_real(each)) for each in (noise(), changed))
    assert (before != after).any((0, 2, 3)).nonzero().flatten().tolist() == [2]
    difference = (network(noise()) - network(changed)).abs().amax((0, 1, 2, 4))
    assert difference[1:].min() > 0


# All variants


@every_variant
@pytest.mark.parametrize(("n_sources", "n_channels", "n_frames"), [(1, 1, 1), (3, 2, 5), (1, 3, 8)])
def test_masks_are_complex_unbounded_and_zero_at_0_hz(variant, n_sources, n_channels, n_frames):
    network = build(variant, n_sources=n_sources, n_channels=n_channels)
    masks = network(noise(n_frames, n_channels))
    assert masks.shape == (2, n_sources, n_channels, 33, n_frames)
    assert masks.dtype is torch.complex64
    assert masks[:, :, :, 1:].abs().min() > 0
    assert bool(masks[:, :, :, 0].any()) == (VARIANTS[variant].get("zero_dc") is False)


@every_variant
def test_parts_that_fit_the_cache_are_the_whole(variant, monkeypatch):
    network, spectrogram = build(variant), noise()
    expected = network(spectrogram).detach()
    monkeypatch.setattr(_transformers, "_CHUNK", 500)  # two or three sequences
    with torch.no_grad():
        # Sums of float32 in another order.
        torch.testing.assert_close(network(spectrogram), expected, rtol=1e-4, atol=1e-6)


@every_variant
def test_recomputation_of_its_blocks_changes_nothing(variant, monkeypatch):
    network = build(variant).train()

    def gradients() -> list[Tensor]:
        network.zero_grad()
        network(noise()).abs().sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    expected, n_recomputed = gradients(), 0
    for block in [part for part in network.modules() if isinstance(part, network.blocks)]:

        def recompute(*args, plain=block.forward):
            nonlocal n_recomputed
            n_recomputed += 1
            return checkpoint(plain, *args, use_reentrant=False)

        monkeypatch.setattr(block, "forward", recompute)
    assert all(map(torch.equal, gradients(), expected))
    assert n_recomputed >= 4


@every_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_its_gradients_are_finite(variant, dtype):
    network, spectrogram = build(variant), noise()
    expected = network(spectrogram)
    with torch.autocast("cpu", dtype):
        found = network(spectrogram)
    assert found.dtype is torch.complex64
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05 if dtype is torch.bfloat16 else 0.01)
    found.abs().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("argument", ["dropout", "attention_dropout"])
def test_dropout_acts_in_training_only(argument):
    network, spectrogram = build("all", **{argument: 0.5}), noise()
    assert torch.equal(network(spectrogram), network(spectrogram))
    network.train()
    assert not torch.equal(network(spectrogram), network(spectrogram))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be at least 1, got 0"),
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
        ({"n_heads": 0}, "n_heads must be at least 1, got 0"),
        ({"head_size": 3}, "head_size must be even, got 3"),
        ({"n_time_layers": 0}, "n_time_layers must be at least 1, got 0"),
        ({"n_band_layers": 0}, "n_band_layers must be at least 1, got 0"),
        ({"n_channel_layers": -1}, "n_channel_layers must be at least 0, got -1"),
        ({"n_mask_layers": 0}, "n_mask_layers must be at least 1, got 0"),
        ({"mask_expansion": 0}, "mask_expansion must be at least 1, got 0"),
        ({"norm": "first"}, "norm must be one of each, last, got 'first'"),
        ({"positions": "sine"}, "positions must be one of rotary, polar, got 'sine'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"attention_dropout": -0.1}, r"attention_dropout must lie in \[0, 1\), got -0.1"),
        ({"bands": [32]}, r"widths of bands must be at least 1 and sum to the 33 bins, got \[32\]"),
        ({"bands": [0, 33]}, r"widths of bands must be at least 1 .* got \[0, 33\]"),
        ({"bands": []}, r"widths of bands must be at least 1 .* got \[\]"),
        ({"bands": 60}, "bands must be so few that none of them is empty and none of 33 bins left out, got 60"),
        ({"bands": 0}, "bands must be at least 1, got 0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
