"""The command sepkit-data: songs to train on, fetched, rendered, checked, looked at, stored, packed."""

from collections.abc import Sequence

from sepkit.cli import _data_check, _data_get, _data_preview, _data_render, _data_shard, _data_songs, _data_store
from sepkit.cli._command import IntermixedParser, make_parser, run_command


def data_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-data`."""
    parser = make_parser(
        "sepkit-data",
        "Fetch open songs, render MIDI, check songs before a training, look at its examples, prepare songs for speed.",
        "sepkit-data get\n"
        "sepkit-data render midi --soundfont font.sf2 --output songs/rendered\n"
        "sepkit-data check my_songs\n"
        "sepkit-data preview my_recipe.yaml\n"
        "sepkit-data store my_songs\n"
        "sepkit-data shard my_songs --output shards",
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True, parser_class=IntermixedParser
    )
    for part in (_data_get, _data_render, _data_songs, _data_check, _data_preview, _data_store, _data_shard):
        part.add(commands)
    return run_command(parser, lambda options: options.job(options), arguments, nested=True)
