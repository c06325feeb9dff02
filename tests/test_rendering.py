"""Stems rendered from MIDI: what is read, which stem a note belongs to, how it is played, and what is written."""

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from sepkit.cli import data_command
from sepkit.datasets import read_manifest
from sepkit.datasets.rendering import RenderingError, RenderSettings, fluidsynth, recording, render
from sepkit.datasets.rendering.instruments import VOICES, find_stem, list_alike, name_instrument
from sepkit.datasets.rendering.midi import Note, estimate_key, read_piece
from sepkit.datasets.rendering.performance import Take, draw_take, perform, write_part
from sepkit.datasets.rendering.rendering import list_midi

RATE = 44100
SCALE = (0, 2, 4, 5, 7, 9, 11)
XG_ON = (67, 16, 76, 0, 0, 126, 0)
GM2_ON = (126, 127, 9, 3)
FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")


def message(kind, time=0, **values):
    made = mido.MetaMessage if kind in ("set_tempo", "key_signature", "track_name") else mido.Message
    return made(kind, time=time, **values)


def note(pitch=60, channel=0, length=480, velocity=90):
    return [
        message("note_on", channel=channel, note=pitch, velocity=velocity),
        message("note_off", length, channel=channel, note=pitch),
    ]


def save(path, *tracks, kind=1, ticks=480):
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(type=kind, ticks_per_beat=ticks, tracks=[mido.MidiTrack(track) for track in tracks]).save(path)
    return path


def save_band(path, tempo=500000):
    """Write two bars of drums, bass and piano in D major."""
    melody = [62, 64, 66, 67, 69, 71, 73, 74]
    return save(
        path,
        [message("set_tempo", tempo=tempo), *(part for _ in range(8) for part in note(36, 9))],
        [message("program_change", channel=1, program=33), *(part for _ in range(8) for part in note(38, 1))],
        [message("program_change", channel=2, program=0), *(part for p in melody for part in note(p, 2))],
    )


@pytest.fixture
def band(tmp_path):
    return save_band(tmp_path / "midi" / "band.mid")


def play_sines(file, _font):
    """Stand in for FluidSynth: a sine for each note."""
    sound = np.zeros((2, int((file.length + 0.1) * RATE)), dtype=np.float32)
    time = 0.0
    for event in file:
        time += event.time
        if event.type == "note_on":
            start = int(time * RATE)
            stop = min(start + RATE // 4, sound.shape[-1])
            tone = np.sin(2 * np.pi * 55.0 * 2 ** (event.note / 12 - 3) * np.arange(stop - start) / RATE)
            sound[:, start:stop] += np.float32(event.velocity / 1000) * tone.astype(np.float32)
    return sound


def make_font(path, name=b"Small", rights=b"MIT"):
    chunks = b"".join(
        kind + len(text).to_bytes(4, "little") + text + b"\0" * (len(text) % 2)
        for kind, text in ((b"ifil", b"\2\0\1\0"), (b"INAM", name), (b"ICOP", rights))
    )
    listed = b"LIST" + (len(chunks) + 4).to_bytes(4, "little") + b"INFO" + chunks
    path.write_bytes(b"RIFF" + (len(listed) + 4).to_bytes(4, "little") + b"sfbk" + listed)
    return path


@pytest.fixture
def font(tmp_path):
    return make_font(tmp_path / "small.sf2")


@pytest.fixture
def sines(monkeypatch):
    monkeypatch.setattr(recording, "synthesize", play_sines)
    monkeypatch.setattr("sepkit.datasets.rendering.rendering.find_fluidsynth", lambda: "fluidsynth")


# Pieces


def test_notes_are_in_seconds_whatever_the_tempo_does(tmp_path):
    track = [message("set_tempo", tempo=500000), *note(60), message("set_tempo", tempo=1000000), *note(62)]
    piece = read_piece(save(tmp_path / "a.mid", track))
    assert [(n.pitch, n.start, n.end) for n in piece.notes] == [(60, 0.0, 0.5), (62, 0.5, 1.5)]
    assert piece.tempo is None  # neither of two tempi is that of the piece


@pytest.mark.parametrize(("tempi", "expected"), [([], None), ([500000], 120.0), ([500000, 502000], 120.0)])
def test_a_tempo_is_stated_and_kept(tmp_path, tempi, expected):
    track = [part for tempo in tempi for part in (message("set_tempo", tempo=tempo), *note(length=4800))] or note()
    tempo = read_piece(save(tmp_path / "a.mid", track)).tempo
    assert tempo == (None if expected is None else pytest.approx(expected, rel=0.01))


@pytest.mark.parametrize("tonic", [0, 3, 7, 11])
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_the_key_of_a_scale_is_found(tonic, mode):
    home = tonic if mode == "major" else tonic + 3
    tones = [60 + home + step for step in SCALE] + [60 + tonic, 67 + tonic] * 2
    notes = [Note(k / 2, k / 2 + 0.5, 0, pitch, 90) for k, pitch in enumerate(tones)]
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    assert estimate_key(notes) == f"{names[tonic]} {mode}"


@pytest.mark.parametrize("pitches", [[], range(60, 72), [60, 61, 62, 63, 64, 65]], ids=["none", "all", "cluster"])
def test_notes_without_key_have_none(pitches):
    assert estimate_key([Note(0.0, 1.0, 0, pitch, 90) for pitch in pitches]) is None


def test_a_stated_key_counts_unless_it_is_the_c_major_that_programs_state_of_all(tmp_path):
    melody = [part for pitch in (62, 66, 69, 62, 64, 67, 71, 73, 62) for part in note(pitch)]
    keys = [
        read_piece(save(tmp_path / "a.mid", [message("key_signature", key=key), *melody])).key for key in ("Bbm", "C")
    ]
    assert keys == ["A# minor", "D major"]


@pytest.mark.parametrize(
    ("setup", "channel"),
    [
        ([], 9),
        ([message("sysex", data=XG_ON), message("control_change", channel=3, control=0, value=127)], 3),
        ([message("sysex", data=GM2_ON), message("control_change", channel=3, control=0, value=120)], 3),
        ([message("sysex", data=(65, 16, 66, 18, 64, 17, 21, 1, 25))], 0),
        ([message("sysex", data=(65, 16, 66, 18, 64, 27, 21, 2, 25))], 11),
    ],
    ids=["tenth channel", "XG", "GM2", "GS", "GS above ten"],
)
def test_drums_are_where_the_standards_put_them(tmp_path, setup, channel):
    piece = read_piece(save(tmp_path / "a.mid", [*setup, *note(36, channel), *note(60, 5)]))
    assert [find_stem(n) for n in piece.notes] == ["drums", "other"]


def list_banks(path, notes):
    """List channel, control and value of what chooses the bank in the part of `notes`."""
    piece = read_piece(save(path, notes))
    take = draw_take(np.random.default_rng(0), piece, True)
    (part,) = perform(np.random.default_rng(0), piece, take, 0.0).values()
    events = [e for e in write_part(piece, take, part, 4.0) if e.type == "control_change" and e.control in (0, 7, 32)]
    return take, [(e.channel, e.control, e.value) for e in events]


def test_drums_on_another_channel_keep_its_controllers_and_have_no_position(tmp_path):
    setup = [message("sysex", data=(65, 16, 66, 18, 64, 27, 21, 2, 25))]
    volume = message("control_change", channel=11, control=7, value=20)
    take, banks = list_banks(tmp_path / "a.mid", [*setup, volume, *note(36, 11)])
    assert banks == [(11, 7, 20), (11, 0, 127), (11, 32, 0)]
    assert 11 not in take.pans


def test_notes_on_the_tenth_channel_where_it_is_none_of_drums_are_played_as_notes(tmp_path):
    setup = [message("sysex", data=(65, 16, 66, 18, 64, 16, 21, 0, 27))]
    bank = message("control_change", channel=9, control=0, value=8)
    take, banks = list_banks(tmp_path / "a.mid", [*setup, bank, *note(60, 9)])
    assert banks == [(9, 0, 0), (9, 32, 8)]
    assert 9 in take.pans


def test_a_bank_alone_makes_no_drums(tmp_path):
    piece = read_piece(save(tmp_path / "a.mid", [message("control_change", control=0, value=127), *note()]))
    assert not piece.notes[0].is_drum


def test_notes_that_nothing_ends_last_to_the_end(tmp_path):
    track = [message("note_on", note=60, velocity=90), *note(64, length=960)]
    assert {n.pitch: n.end for n in read_piece(save(tmp_path / "a.mid", track)).notes} == {60: 1.0, 64: 1.0}


def test_a_cut_piece_ends_there(tmp_path):
    piece = read_piece(save(tmp_path / "a.mid", [*note(length=960), *note(length=960), *note()]), 1.5)
    assert [(n.start, n.end) for n in piece.notes] == [(0.0, 1.0), (1.0, 1.5)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"a\.mid is no MIDI file that can be read: it ends early"),
        (b"MThd", r"a\.mid is no MIDI file that can be read"),
        (b"RIFF0000WAVE" * 9, r"a\.mid is no MIDI file that can be read: MThd not found"),
        (b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\x08\0\xff\x59\x02\x7f\x00\0\xff", r"is no MIDI file that can be read"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\x28MTrk\0\0\0\4\0\xff\x2f\0", r"has times of frames \(SMPTE\): save it as type 0"),
        (b"MThd\0\0\0\6\0\2\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0", r"has independent sequences \(type 2\): save it"),
        (b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk\0\0\0\4\0\xff\x2f\0", r"a\.mid has no notes$"),
    ],
    ids=["empty", "cut", "other", "key", "frames", "sequences", "silent"],
)
def test_what_is_no_piece_is_named(tmp_path, content, reason):
    (tmp_path / "a.mid").write_bytes(content)
    with pytest.raises(RenderingError, match=reason):
        read_piece(tmp_path / "a.mid")


def test_a_piece_without_end_is_refused(tmp_path):
    path = save(tmp_path / "a.mid", [message("set_tempo", tempo=16000000), *note(length=480 * 600)])
    with pytest.raises(RenderingError, match=r"lasts 160 minutes, more than an hour: cut it by --seconds"):
        read_piece(path)
    assert read_piece(path, 10.0).duration == 10.0


# Instruments


@pytest.mark.parametrize("program", range(128))
def test_every_program_has_a_stem_and_a_name_and_others_of_its_stem_in_its_place(program):
    played = Note(0.0, 1.0, 0, 60, 90, program)
    stems = {find_stem(Note(0.0, 1.0, 0, 60, 90, other)) for other in list_alike(played)}
    assert stems == {find_stem(played)}
    assert (find_stem(played) is None) == (program in VOICES)
    assert name_instrument(played)


@pytest.mark.parametrize(
    ("program", "name"), [(0, "Standard Kit"), (25, "TR-808 Kit"), (17, "Power Kit"), (99, "Standard Kit")]
)
def test_kits_have_names(program, name):
    assert name_instrument(Note(0.0, 1.0, 9, 36, 90, program, is_drum=True)) == name


# Performances


def test_what_is_not_humanised_is_played_as_written(band):
    piece = read_piece(band)
    take = draw_take(np.random.default_rng(0), piece, True)
    parts = perform(np.random.default_rng(0), piece, take, 0.0)
    assert sorted((n for notes in parts.values() for n in notes), key=str) == sorted(piece.notes, key=str)


def test_people_come_late_and_are_not_equally_loud(band):
    piece = read_piece(band)
    take = draw_take(np.random.default_rng(0), piece, True)
    played = perform(np.random.default_rng(0), piece, take, 1.0)["other"]
    written = [n for n in piece.notes if find_stem(n) == "other"]
    late = np.array([b.start - a.start for a, b in zip(written, played, strict=True)])
    assert (late >= 0).all()
    assert 0.001 < late.max() < 0.05
    assert len({n.velocity for n in played}) > 3


def test_drums_keep_their_instruments_in_another_key(band):
    piece = read_piece(band)
    parts = perform(
        np.random.default_rng(0), piece, Take(2.0, 3, {(n.is_drum, n.program): n.program for n in piece.notes}, {}), 0.0
    )
    assert {n.pitch for n in parts["drums"]} == {36}
    assert {n.pitch for n in parts["bass"]} == {41}
    assert max(n.end for n in parts["bass"]) == pytest.approx(2.0)


def test_a_part_has_its_programs_before_its_notes_and_no_note_cuts_the_next(tmp_path):
    track = [
        message("program_change", program=5), *note(60), message("program_change", program=7), *note(60),
    ]  # fmt: skip
    piece = read_piece(save(tmp_path / "a.mid", track))
    take = draw_take(np.random.default_rng(0), piece, True)
    notes = perform(np.random.default_rng(3), piece, take, 4.0)["other"]
    events = list(write_part(piece, take, notes, 4.0))
    program, sounding = None, 0
    for event in events:
        program = event.program if event.type == "program_change" else program
        if event.type == "note_on":
            assert (program, sounding) == ((5, 0) if program == 5 else (7, 0))
        sounding += {"note_on": 1, "note_off": -1}.get(event.type, 0)
    assert [n.program for n in notes] == [5, 7]
    assert sum(event.time for event in events) == pytest.approx(4.0, abs=0.01)


def test_positions_that_the_piece_states_are_kept(tmp_path):
    track = [message("control_change", channel=2, control=10, value=100), *note(60, 2), *note(60, 3)]
    pans = draw_take(np.random.default_rng(0), read_piece(save(tmp_path / "a.mid", track)), True).pans
    assert 2 not in pans
    assert 3 in pans


# Files


@pytest.mark.usefixtures("sines")
def test_a_root_is_rendered_with_what_is_known_of_it(tmp_path, band, font):
    lines = []
    settings = RenderSettings(licence="CC0-1.0")
    manifest = render([band], [font], tmp_path / "out", settings, log=lines.append, progress=False)
    rows = read_manifest(manifest).rows
    assert [(r.stem, r.track, r.split, r.tempo, r.key, r.licence) for r in rows] == [
        (stem, "band", "train", 120.0, "D major", "CC0-1.0") for stem in ("drums", "bass", "other")
    ]
    assert [r.programs for r in rows] == ["Standard Kit", "Finger Bass", "Acoustic Grand Piano"]
    stems = [soundfile.read(row.path) for row in rows]
    assert {rate for _, rate in stems} == {RATE}
    assert len({len(sound) for sound, _ in stems}) == 1
    assert np.abs(sum(sound for sound, _ in stems)).max() < 0.99
    assert all(np.abs(sound).max() > 0.01 for sound, _ in stems)
    assert lines == ["rendered   1 tracks, 0 minutes: drums in 1, bass in 1, other in 1"]
    record = json.loads((tmp_path / "out" / "render.json").read_text())
    assert record["soundfonts"][0] | {"sha256": ""} == {"name": "Small", "copyright": "MIT", "sha256": ""}


def _contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("sines")
def test_the_same_call_gives_the_same_files_whatever_the_workers(tmp_path, font):
    for k in range(2):
        save_band(tmp_path / "midi" / f"{k}.mid", 400000 + 50000 * k)
    settings = RenderSettings(seed=3, takes=2)
    for name, workers in (("a", 1), ("b", 3)):
        render([tmp_path / "midi"], [font], tmp_path / name, settings, workers, log=str, progress=False)
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")
    assert len({path.parts[1] for path in _contents(tmp_path / "a") if path.parts[0] == "train"}) == 4


@pytest.mark.usefixtures("sines")
def test_takes_after_the_first_have_their_own_key_and_tempo(tmp_path, band, font):
    settings = RenderSettings(takes=4)
    manifest = render([band], [font], tmp_path / "out", settings, log=str, progress=False)
    drums = [row for row in read_manifest(manifest).rows if row.stem == "drums"]
    assert (drums[0].tempo, drums[0].key) == (120.0, "D major")
    assert len({row.tempo for row in drums}) == 4
    assert len({row.key for row in drums}) > 1
    assert len({row.programs for row in drums}) > 1


@pytest.mark.usefixtures("sines")
def test_what_broke_off_goes_on(tmp_path, font, monkeypatch):
    for k in range(3):
        save_band(tmp_path / "midi" / f"{k}.mid", 400000 + 50000 * k)
    call = [tmp_path / "midi"], [font], tmp_path / "out"
    rendered = []

    def stop_at_the_third(*arguments):
        if len(rendered) == 2:
            raise KeyboardInterrupt
        rendered.append(recording.record(*arguments))
        return rendered[-1]

    monkeypatch.setattr("sepkit.datasets.rendering.rendering.record", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        render(*call, workers=1, log=print, progress=False)
    assert len(list((tmp_path / "out" / "train").iterdir())) == 2
    rendered.clear()
    manifest = render(*call, workers=1, log=print, progress=False)
    assert len(rendered) == 1
    assert len(read_manifest(manifest).tracks()) == 3


@pytest.mark.usefixtures("sines")
def test_files_that_cannot_be_read_are_passed_over_by_name(tmp_path, band, font):
    (band.parent / "broken.mid").write_bytes(b"nothing")
    save(band.parent / "choir.mid", [message("program_change", program=52), *note()])
    lines = []
    manifest = render([band.parent], [font], tmp_path / "out", log=lines.append, progress=False)
    assert {row.track for row in read_manifest(manifest).rows} == {"band"}
    assert any("broken.mid is no MIDI file that can be read" in line for line in lines)
    assert any("choir.mid has voices alone, which are left out" in line for line in lines)
    assert "licence    not stated: --licence TEXT writes it into the manifest" in lines


@pytest.mark.usefixtures("sines")
def test_nothing_that_can_be_read_is_an_error(tmp_path, font):
    (tmp_path / "broken.mid").write_bytes(b"nothing")
    with pytest.raises(RenderingError, match=r"none of 1 MIDI files could be rendered: see above why"):
        render([tmp_path / "broken.mid"], [font], tmp_path / "out", log=print, progress=False)


@pytest.mark.usefixtures("sines")
def test_a_stem_without_instrument_in_the_font_is_named(tmp_path, band, font, monkeypatch):
    def without_drums(file, path):
        sound = play_sines(file, path)
        return 0.0 * sound if any(getattr(event, "channel", 0) == 9 for event in file) else sound

    monkeypatch.setattr(recording, "synthesize", without_drums)
    lines = []
    manifest = render([band], [font], tmp_path / "out", log=lines.append, progress=False)
    assert [row.stem for row in read_manifest(manifest).rows] == ["bass", "other"]
    assert "without    drums in band.mid: Small has no such instrument" in lines


@pytest.mark.usefixtures("sines")
def test_a_root_of_other_settings_or_of_something_else_is_refused(tmp_path, band, font):
    call = [band], [font], tmp_path / "out"
    render(*call, log=print, progress=False)
    render(*call, RenderSettings(split="valid"), log=print, progress=False)  # beside the songs of train
    with pytest.raises(
        ValueError, match=r"out was rendered with other settings or sound fonts: choose another --output"
    ):
        render(*call, RenderSettings(seed=1), log=print, progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"full holds something else than rendered pieces: choose another --output"):
        render([band], [font], tmp_path / "full", log=print, progress=False)


@pytest.mark.usefixtures("sines")
@pytest.mark.parametrize("how", ["other notes", "damaged facts"])
def test_a_track_of_another_piece_is_not_taken_for_this_one(tmp_path, band, font, how):
    call = [band], [font], tmp_path / "out"
    render(*call, log=str, progress=False)
    if how == "other notes":
        save(band, note())
    else:
        (tmp_path / "out" / "train" / "band" / "piece.json").write_text("[]")
    lines = []
    with pytest.raises(RenderingError, match=r"none of 1 MIDI files could be rendered"):
        render(*call, log=lines.append, progress=False)
    assert "band is there, and was rendered from another file than band.mid: remove it, or choose" in lines[0]


@pytest.mark.usefixtures("sines")
def test_what_a_killed_call_left_half_written_is_no_obstacle(tmp_path, band, font):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".sepkit-0123456789ab.part").write_text("{")
    assert render([band], [font], tmp_path / "out", log=str, progress=False).is_file()


@pytest.mark.usefixtures("sines")
def test_a_file_may_have_a_name_that_is_no_text(tmp_path, band, font):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/midi/n\xff\n.mid")
    shutil.copy(band, odd)
    lines = []
    manifest = render([band.parent], [font], tmp_path / "out", log=lines.append, progress=False)
    assert {row.track for row in read_manifest(manifest).rows} == {"band", "n_udcff_"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed must be a whole number from 0, got -1"),
        ({"takes": 0}, "takes must be a whole number, 1 to 1000, got 0"),
        ({"humanise": 5.0}, "humanise must lie in 0 to 4, got 5.0"),
        ({"humanise": float("nan")}, "humanise must lie in 0 to 4, got nan"),
        ({"seconds": 0.0}, "seconds must lie in 1 to 3600, got 0.0"),
        ({"split": "trian"}, "split must be one of train, valid, test, got 'trian'"),
        ({"licence": " "}, "licence must be text, got ' '"),
    ],
)
def test_settings_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        RenderSettings(**given)


def test_names_stay_apart(tmp_path):
    for name in ("one/a.mid", "two/a.mid", "one/b.MID", "one/a.txt"):
        save(tmp_path / name, note())
    assert list(list_midi([tmp_path])) == ["one_a", "one_b", "two_a"]
    assert list(list_midi([tmp_path / "one/a.mid", tmp_path / "two/a.mid", tmp_path / "one"])) == ["a", "a #2", "b"]


def test_names_that_differ_in_case_alone_or_not_at_all_once_they_are_safe_stay_apart(tmp_path):
    for name in ("A.mid", "b/a.mid", "b?.mid", "b_.mid", "b_a.mid"):
        save(tmp_path / name, note())
    (tmp_path / "folder.mid").mkdir()
    assert list(list_midi([tmp_path])) == ["A", "b_a", "b_", "b_ #2", "b_a #2"]
    assert list(list_midi([tmp_path / "A.mid", tmp_path / "b"])) == ["A", "a #2"]


@pytest.mark.parametrize(
    ("places", "message"),
    [([], "MIDI files are wanted, got none"), (["gone.mid"], r"gone\.mid is not there"), (["."], "holds no MIDI file")],
)
def test_places_without_midi_are_refused(tmp_path, monkeypatch, places, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        list_midi(places)


# Fonts and FluidSynth


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"sfbk" * 9])
def test_what_is_no_font_is_refused(tmp_path, content):
    (tmp_path / "a.sf2").write_bytes(content)
    with pytest.raises(RenderingError, match=r"a\.sf2 is no sound font \(.sf2 or .sf3\); Debian's"):
        fluidsynth.read_font(tmp_path / "a.sf2")


def test_a_font_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RenderingError, match=r"gone\.sf2 cannot be read: No such file or directory; Debian's"):
        fluidsynth.read_font(tmp_path / "gone.sf2")


def test_the_command_says_what_is_missing_in_a_line(tmp_path, band, font, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    code = data_command(["render", str(band), "--soundfont", str(font), "--output", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert code == 1
    assert "MIDI is rendered by FluidSynth, which is not installed: apt-get install fluidsynth" in told
    assert len(told.splitlines()) == 1


def test_a_missing_reader_is_named(monkeypatch, band):
    monkeypatch.setitem(__import__("sys").modules, "mido", None)
    with pytest.raises(RenderingError, match=r"read by mido, which is missing: pip install 'sepkit\[midi\]'"):
        read_piece(band)


@pytest.mark.parametrize(
    ("script", "reason"), [("echo error: bad font >&2", "error: bad font"), ("exit 3", "ended with 3")]
)
def test_what_fluidsynth_says_is_told(tmp_path, font, monkeypatch, script, reason):
    command = tmp_path / "fluidsynth"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RenderingError, match=rf"FluidSynth cannot render with small.sf2: .*{reason}"):
        fluidsynth.synthesize(mido.MidiFile(tracks=[mido.MidiTrack(note())]), font)


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not FONT.is_file(), reason="needs fluidsynth and timgm6mb-soundfont"
)
def test_fluidsynth_plays_notes_where_they_are_at_their_pitch(tmp_path, capsys):
    track = [*note(69, length=480), message("note_on", 480, note=69, velocity=90), *note(81)[1:]]
    save(tmp_path / "a.mid", track)
    call = ["render", str(tmp_path / "a.mid"), "--soundfont", str(FONT), "--output", str(tmp_path / "out")]
    assert data_command([*call, "--humanise", "0"]) == 0
    assert "next       sepkit-data check" in capsys.readouterr().out
    sound, _ = soundfile.read(tmp_path / "out" / "train" / "a" / "other.wav")
    spectrum = np.abs(np.fft.rfft(sound[: RATE // 2].sum(1), RATE))
    assert abs(int(np.argmax(spectrum)) - 440) <= 2 or abs(int(np.argmax(spectrum)) - 880) <= 4
    loud = np.abs(sound).max(1)
    onsets = np.flatnonzero(loud > 0.2 * loud.max())
    assert onsets[0] < 0.05 * RATE
    assert any(abs(later - RATE) < 0.06 * RATE for earlier, later in pairwise(onsets) if later - earlier > 0.05 * RATE)


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not FONT.is_file(), reason="needs fluidsynth and timgm6mb-soundfont"
)
def test_fluidsynth_plays_drums_alike_on_any_channel_and_notes_on_the_tenth(tmp_path):
    def play(setup, channel, pitch):
        piece = read_piece(save(tmp_path / "a.mid", [*setup, *note(pitch, channel)]))
        take = draw_take(np.random.default_rng(0), piece, True)
        take = Take(take.speed, take.semitones, take.programs, {})
        (part,) = perform(np.random.default_rng(0), piece, take, 0.0).values()
        return fluidsynth.synthesize(write_part(piece, take, part, 1.0), FONT)

    others = {11: (65, 16, 66, 18, 64, 27, 21, 2, 25), 9: (65, 16, 66, 18, 64, 16, 21, 0, 27)}  # Roland GS
    setups = {channel: [message("sysex", data=data)] for channel, data in others.items()}
    drum, tone = play([], 9, 38), play([], 0, 38)
    assert np.abs(drum - tone[:, : drum.shape[1]]).max() > 0.01
    assert np.array_equal(play(setups[11], 11, 38), drum)
    assert np.array_equal(play(setups[9], 9, 38), tone)
