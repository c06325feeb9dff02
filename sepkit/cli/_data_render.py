"""`sepkit-data render`: stems from MIDI."""

import argparse

from sepkit.cli._command import add_command, print_line


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "render",
        "Render MIDI files into a root of stems (drums, bass, other) through FluidSynth and sound fonts.",
        "sepkit-data render midi --soundfont /usr/share/sounds/sf2/FluidR3_GM.sf2 --output songs/rendered\n"
        "sepkit-data render *.mid --soundfont a.sf2 --soundfont b.sf3 --takes 3 --output songs/rendered\n"
        "sepkit-data render drummers --soundfont kit.sf2 --humanise 0 --licence CC-BY-4.0 --output songs/drummers",
        "FluidSynth: apt-get install fluidsynth, brew install fluid-synth.\n"
        "A sound font (MIT): apt-get install fluid-soundfont-gm lays one into /usr/share/sounds/sf2.\n"
        "MIDI files are read by mido: pip install 'sepkit[midi]'. Programs of voices are left out.\n"
        "What broke off goes on with the same command.",
    )
    parser.add_argument("midi", metavar="MIDI", nargs="+", help="files, and folders that are searched for them")
    parser.add_argument(
        "--soundfont", metavar="FILE", action="append", required=True, help="may be given several times: one is drawn"
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="the root")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of all that is drawn (default: 0)")
    parser.add_argument(
        "--takes",
        type=int,
        metavar="N",
        default=1,
        help="renderings of each piece; those after the first in another key, tempo, and with other instruments of the "
        "same kind (default: 1)",
    )
    parser.add_argument(
        "--humanise",
        type=float,
        metavar="X",
        default=1.0,
        help="how loosely notes come and how unlike their loudness is, 0 to 4 (default: 1, as people play)",
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="of each piece (default: all)")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train", help="(default: train)")
    parser.add_argument("--licence", metavar="TEXT", help="of the pieces, for the manifest")
    parser.add_argument("--workers", type=int, metavar="N", help="pieces at a time (default: one a core)")
    parser.set_defaults(job=_render)


def _render(options: argparse.Namespace) -> int:
    from sepkit.datasets.rendering import RenderSettings, render

    settings = RenderSettings(
        seed=options.seed,
        takes=options.takes,
        humanise=options.humanise,
        seconds=options.seconds,
        split=options.split,
        licence=options.licence,
    )
    manifest = render(options.midi, options.soundfont, options.output, settings, options.workers, log=print_line)
    print(f"manifest   {manifest}")
    print(f"next       sepkit-data check {options.output}")
    return 0
