"""Several separators as one: averaged by source, each with chunks of its own, written down and read as any model."""

import copy
import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from goldens import snr
from networks import SMALL
from torch import Tensor

from sepkit.bag import Bag, join_members, join_states
from sepkit.importing.model import read_model
from sepkit.inference import StreamSeparator, choose_chunking, separate
from sepkit.inference.passes import draw_delays
from sepkit.model_folder import ModelError, load_model, save_model
from sepkit.separator import Separator

RATE = 50
DEMUCS = {"window": "triangle", "last": "short"}
TRANSFORM = {"class": "STFT", "n_fft": 16, "hop_length": 8}


def member(network: dict, n_samples: int = 100, **more) -> dict:
    numbers = {"sample_rate": RATE, "n_channels": 2, "segment": n_samples / RATE}
    return {"sources": ["a", "b"], **numbers, "transform": TRANSFORM, "network": network, **more}


def placed(gain: float = 1.0, fills: int = 1, n_samples: int = 100, **more) -> dict:
    return member({"class": "networks.Placed", "gain": gain, "fills": fills}, n_samples, **more)


def small(seed: int) -> Separator:
    torch.manual_seed(seed)
    return Separator(**member({"class": "ConvTasNet", **SMALL["ConvTasNet"]}, chunking=DEMUCS)).eval()


def noise(n_samples: int) -> Tensor:
    return torch.rand(2, n_samples, generator=torch.Generator().manual_seed(n_samples)) - 0.5


def stacked(model: Separator, mixture: Tensor, **options) -> Tensor:
    return torch.stack(list(separate(model, mixture, **options).values()))


# Like demucs

KINDS = {"plain": lambda _: 1, "valid": lambda _: 0, "htdemucs": int}


@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize(("number", "n_samples"), [(8, {"plain": 97, "valid": 97, "htdemucs": 97}), (9, 75)])
def test_a_stream_is_separated_as_demucs_separates_the_whole(reference_root, monkeypatch, number, n_samples, block):
    folder = reference_root / "goldens" / "models" / "demucs_apply"
    case, arrays = json.loads((folder / "config.json").read_text())["cases"][number], np.load(folder / "io.npz")
    mixture, wanted = (torch.from_numpy(arrays[f"{name}_{number}"])[0] for name in ("input", "output"))
    lengths = n_samples if isinstance(n_samples, dict) else dict.fromkeys(KINDS, n_samples)
    members = [
        placed(gain, KINDS[kind](lengths[kind]), lengths[kind], chunking=DEMUCS) for kind, gain in case["bag"]["models"]
    ]
    model = Separator(**join_members(members, case["bag"]["weights"])).eval()
    offsets = iter(case["offsets_drawn"])
    n_shifts = case["options"]["shifts"]
    monkeypatch.setattr(
        "sepkit.inference.passes.draw_delays", lambda *_: [RATE // 2 - next(offsets) for _ in range(n_shifts)] or [0]
    )
    stream = StreamSeparator(model, RATE, 2, ["a", "b"], choose_chunking(model, shifts=n_shifts))
    found = torch.cat(list(stream.run(mixture.split(block, -1))), -1)
    assert snr(found, wanted) > 120
    seen = [sorted(one.network.lengths) for one in model.network.members]
    assert seen == [sorted(each) for each in case["lengths_seen_by_the_network"]]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_bag_of_published_packages_gives_what_demucs_gives(reference_root, batch_size):
    folder = reference_root / "goldens" / "models" / "demucs_package"
    arrays, imported = np.load(folder / "io.npz"), read_model(folder / "bag.yaml")
    model = Separator(**imported.settings).eval()
    model.load_state_dict(imported.state)
    assert model.network.members[0].segment * 44100 == 5292
    # As they are: the reference was taken without the normalisation that demucs' command does before.
    stream = StreamSeparator(model, 44100, 2, model.sources, choose_chunking(model, batch_size=batch_size), (0, 1))
    found = torch.cat(list(stream.run([torch.from_numpy(arrays["input"][0])])), -1)
    assert snr(found[None], torch.from_numpy(arrays["output_bag"])) > 90


# The mean


def test_each_source_is_the_weighted_mean_of_its_members():
    first, second = small(0), small(1)
    model = Separator(**join_members([first.settings, second.settings], [[1.0, 0.0], [3.0, 2.0]])).eval()
    model.load_state_dict(join_states([first.state_dict(), second.state_dict()]))
    mixture = noise(470)
    found, (one, two) = stacked(model, mixture), (stacked(part, mixture) for part in (first, second))
    torch.testing.assert_close(found[0], (one[0] + 3 * two[0]) / 4)
    torch.testing.assert_close(found[1], two[1])
    torch.testing.assert_close(model(mixture[None])[0, 0], (first(mixture[None]) + 3 * second(mixture[None]))[0, 0] / 4)


def test_a_member_that_does_not_matter_is_not_run():
    model = Separator(**join_members([placed(1.0), placed(2.0)], [[1.0, 0.0], [0.5, 1.0]])).eval()
    first, second = (part.network.lengths for part in model.network.members)
    mixture, everything = noise(300), stacked(model, noise(300))
    n_chunks = len(first)
    assert torch.equal(separate(model, mixture, stems=["b"])["b"], everything[1])
    assert (len(first), len(second)) == (n_chunks, 2 * n_chunks)
    separate(model, mixture, stems=["b", "residual"])
    assert (len(first), len(second)) == (2 * n_chunks, 3 * n_chunks)


def test_shifts_are_drawn_for_each_member_whoever_is_run():
    model = Separator(**join_members([placed(1.0), placed(2.0)], [[1.0, 0.0], [0.5, 1.0]])).eval()
    chunking, generator = choose_chunking(model, shifts=2), torch.Generator().manual_seed(0)
    delays = [draw_delays(chunking, RATE, generator) for _ in range(2)]
    assert delays[0] != delays[1]
    mixture = noise(300)
    everything = separate(model, mixture, shifts=2)
    assert torch.equal(separate(model, mixture, stems=["b"], shifts=2)["b"], everything["b"])


def test_members_of_other_segments_keep_theirs():
    parts = [placed(1.0, n_samples=40), placed(2.0, n_samples=90)]
    settings = join_members(parts)
    assert settings["segment"] == 90 / RATE
    mixture = noise(300)
    wanted = sum(stacked(Separator(**part), mixture) for part in parts) / 2
    torch.testing.assert_close(stacked(Separator(**settings), mixture), wanted)


def test_a_bag_may_be_of_normalised_recordings():
    settings = join_members([placed(1.0, normalize="recording"), placed(2.0, normalize="recording")])
    assert settings["normalize"] == "recording"
    model, mixture = Separator(**settings).eval(), 0.1 + noise(300)
    mono = mixture.mean(0)
    normalized = (mixture - mono.mean()) / mono.std()
    model.normalize = None
    wanted = stacked(model, normalized) * mono.std() + mono.mean()
    model.normalize = "recording"
    torch.testing.assert_close(stacked(model, mixture), wanted)
    assert torch.equal(stacked(model, torch.zeros(2, 300)), torch.zeros(2, 2, 300))


# As a model


def test_a_folder_holds_a_bag_of_different_networks(tmp_path):
    other = {"class": "BLSTM", **SMALL["BLSTM"], "n_bands": 4}
    torch.manual_seed(0)
    parts = [small(0), Separator(**{**member(other), "transform": {**TRANSFORM, "n_fft": 32}}, chunking=DEMUCS)]
    model = Separator(**join_members([part.settings for part in parts])).eval()
    model.load_state_dict(join_states([part.state_dict() for part in parts]))
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.settings == model.settings
    assert torch.equal(stacked(loaded, noise(200)), stacked(model, noise(200)))


def test_a_bag_is_trained_as_a_network():
    model = Separator(**join_members([small(0).settings, small(1).settings], [[1.0, 0.0], [1.0, 1.0]])).train()
    targets = torch.stack([noise(300), noise(301)[:, :300]])[None]
    separation = model.analyze(targets.sum(1), targets)
    (separation.estimate_magnitude - separation.target_magnitude).abs().mean().backward()
    assert all(parameter.grad is not None for part in model.network.members for parameter in part.parameters())
    assert model.facts.blocks == model.network.members[0].facts.blocks


def test_a_stranger_cannot_name_classes_through_its_members(tmp_path):
    model = Separator(**join_members([placed(1.0)])).eval()
    save_model(model, tmp_path)
    with pytest.raises(ModelError, match=r"members\.0\.class: 'networks\.Placed' is not one of sepkit's own"):
        load_model(tmp_path)
    assert isinstance(load_model(tmp_path, trust=True).network, Bag)


def test_a_stranger_cannot_trust_itself(tmp_path):
    save_model(Separator(**join_members([placed(1.0)])).eval(), tmp_path)
    card = json.loads((tmp_path / "model.json").read_text())
    for holder in (card["separator"]["network"], card["separator"]["network"]["members"][0]):
        holder["trusted"] = True
        (tmp_path / "model.json").write_text(json.dumps(card))
        with pytest.raises(ModelError, match=r"trusted: must be left out|is not one of sepkit's own"):
            load_model(tmp_path)
        del holder["trusted"]


# Refusals


@pytest.mark.parametrize(
    ("members", "weights", "message"),
    [
        ([], [], "members must be at least one, got none"),
        ([placed()], [[1.0]], r"weights must be 1 lists of 2 numbers, got \[\[1.0\]\]"),
        ([placed()], [[1.0, -1.0]], "weights must be finite and not below 0, got"),
        ([placed(), placed()], [[1, 1], [0, 0]], "weights.1 must be above 0 for one source at least: leave the member"),
        ([placed(), placed()], [[1, 0], [1, 0]], "weights must be above 0 for source 1 in one member at least"),
        ([placed(), {**placed(), "sample_rate": 60}], None, r"members.1 must have the .*, got a, b, 60 and 2"),
        ([placed(), {**placed(), "sources": ["b", "a"]}], None, "members.1 must have the .*, got b, a, 50 and 2"),
        ([placed(chunking={})], None, "members.0 must leave chunking to the separator whose network the bag is"),
        ([{**placed(), "gain": 2}], None, "members.0.gain: Separator has no such argument"),
        ([member({"class": "Nothing"})], None, "members.0.class: there is no class 'Nothing'"),
        ([join_members([placed()])], None, "members.0 must not be a bag itself: list its members"),
    ],
)
def test_a_bag_that_cannot_be_is_refused(members, weights, message):
    weights = [[1, 1] for _ in members] if weights is None else weights
    network = {"class": "sepkit.bag.Bag", "members": members, "weights": weights}
    with pytest.raises(ValueError, match=message):
        Separator(**member(network))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "members must be at least one, got none"),
        (
            [placed(), {**placed(), "sample_rate": 60}],
            "members must agree in sample_rate, got 50 of the first and 60 of 2",
        ),
        ([placed(), placed(normalize="recording")], "members must agree in normalize, got null of the first and 'rec"),
    ],
)
def test_members_that_do_not_go_together_are_not_joined(members, message):
    with pytest.raises(ValueError, match=message):
        join_members(members)


# As any network


def bag() -> Separator:
    settings = join_members([small(0).settings, small(1).settings], [[1.0, 0.0], [1.0, 1.0]])
    return Separator(**settings).eval()


@pytest.mark.parametrize("context", [nullcontext, torch.inference_mode, torch.no_grad], ids=lambda each: each.__name__)
def test_a_bag_that_separated_can_be_trained(context):
    model = bag()
    with context():
        separate(model, noise(300))
    model.train()
    model(noise(100)[None]).square().mean().backward()
    assert all(part.grad.isfinite().all() for part in model.parameters())


def test_items_do_not_depend_on_their_batchmates():
    model, mixtures = bag(), torch.stack([noise(200), 0.1 * noise(200).flip(-1)])
    both = model(mixtures)
    torch.testing.assert_close(both[1:], model(mixtures[1:]))
    torch.testing.assert_close(both[:1], model(mixtures[:1]))


def test_it_moves_to_another_precision_as_a_whole():
    model, mixture = bag(), noise(200)[None]
    torch.testing.assert_close(copy.deepcopy(model).double()(mixture.double()).float(), model(mixture))
    assert model.network.weights.dtype == torch.float32


def test_the_cores_of_its_members_compile():
    model, mixture = bag(), noise(200)[None]
    wanted = model(mixture)
    model.facts.core.compile(backend="aot_eager")
    torch.testing.assert_close(model(mixture), wanted)


@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0, 1e3])
def test_values_are_finite_at_any_level(level):
    assert bag()(level * noise(200)[None]).isfinite().all()
