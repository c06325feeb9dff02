"""General MIDI: what each program is called, and which stem it belongs to."""

from sepkit.datasets.rendering.midi import Note

STEMS = ("drums", "bass", "other")
VOICES = frozenset({52, 53, 54, 85, 91})  # choirs and voices, which are no instrument and no singer
_STRUCK = frozenset({113, 115, 116, 117, 118, 119})  # agogo, woodblock, taiko, toms, reversed cymbal
_BASSES = range(32, 40)
_PROGRAMS = (
    "Acoustic Grand Piano", "Bright Acoustic Piano", "Electric Grand Piano", "Honky-tonk Piano", "Electric Piano 1",
    "Electric Piano 2", "Harpsichord", "Clavinet", "Celesta", "Glockenspiel", "Music Box", "Vibraphone", "Marimba",
    "Xylophone", "Tubular Bells", "Dulcimer", "Drawbar Organ", "Percussive Organ", "Rock Organ", "Church Organ",
    "Reed Organ", "Accordion", "Harmonica", "Tango Accordion", "Nylon Guitar", "Steel Guitar", "Jazz Guitar",
    "Clean Guitar", "Muted Guitar", "Overdriven Guitar", "Distortion Guitar", "Guitar Harmonics", "Acoustic Bass",
    "Finger Bass", "Pick Bass", "Fretless Bass", "Slap Bass 1", "Slap Bass 2", "Synth Bass 1", "Synth Bass 2",
    "Violin", "Viola", "Cello", "Contrabass", "Tremolo Strings", "Pizzicato Strings", "Harp", "Timpani",
    "String Ensemble 1", "String Ensemble 2", "Synth Strings 1", "Synth Strings 2", "Choir Aahs", "Voice Oohs",
    "Synth Voice", "Orchestra Hit", "Trumpet", "Trombone", "Tuba", "Muted Trumpet", "French Horn", "Brass Section",
    "Synth Brass 1", "Synth Brass 2", "Soprano Sax", "Alto Sax", "Tenor Sax", "Baritone Sax", "Oboe", "English Horn",
    "Bassoon", "Clarinet", "Piccolo", "Flute", "Recorder", "Pan Flute", "Blown Bottle", "Shakuhachi", "Whistle",
    "Ocarina", "Square Lead", "Sawtooth Lead", "Calliope Lead", "Chiff Lead", "Charang Lead", "Voice Lead",
    "Fifths Lead", "Bass and Lead", "New Age Pad", "Warm Pad", "Polysynth Pad", "Choir Pad", "Bowed Pad",
    "Metallic Pad", "Halo Pad", "Sweep Pad", "Rain", "Soundtrack", "Crystal", "Atmosphere", "Brightness", "Goblins",
    "Echoes", "Sci-fi", "Sitar", "Banjo", "Shamisen", "Koto", "Kalimba", "Bagpipe", "Fiddle", "Shanai", "Tinkle Bell",
    "Agogo", "Steel Drums", "Woodblock", "Taiko Drum", "Melodic Tom", "Synth Drum", "Reverse Cymbal",
    "Guitar Fret Noise", "Breath Noise", "Seashore", "Bird Tweet", "Telephone Ring", "Helicopter", "Applause",
    "Gunshot",
)  # fmt: skip
_KITS = {
    0: "Standard",
    8: "Room",
    16: "Power",
    24: "Electronic",
    25: "TR-808",
    32: "Jazz",
    40: "Brush",
    48: "Orchestra",
}
# Programs that may take each other's place in another rendering of a piece.
_ALIKE = (
    range(0, 4), range(4, 6), range(8, 16), range(16, 21), range(24, 26), range(26, 29), range(29, 31), range(32, 40),
    range(48, 52), range(56, 60), range(61, 64), range(64, 68), range(72, 76), (80, 81, 82, 83, 84, 86),
    (88, 89, 90, 92, 93, 94, 95),
)  # fmt: skip
_LIKE_KITS = (0, 8, 16, 24, 25, 32)


def find_stem(note: Note) -> str | None:
    """Find the stem of a note; None: it is a voice's, and left out."""
    if note.is_drum or note.program in _STRUCK:
        return "drums"
    if note.program in VOICES:
        return None
    return "bass" if note.program in _BASSES else "other"


def name_instrument(note: Note) -> str:
    """Name what plays a note."""
    if note.is_drum:
        return f"{_KITS.get(note.program) or _KITS.get(note.program // 8 * 8, 'Standard')} Kit"
    return _PROGRAMS[note.program]


def list_alike(note: Note) -> list[int]:
    """List the programs that may play a note, its own among them."""
    if note.is_drum:
        return sorted({*_LIKE_KITS, note.program})
    return next((list(alike) for alike in _ALIKE if note.program in alike), [note.program])
