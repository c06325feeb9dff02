"""`sepkit-data shard`: a root packed into tar files."""

import argparse

from sepkit.cli._command import add_command, print_line


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "shard",
        "Pack a root into tar files and an index, from which a training reads in place, here or over the network.",
        "sepkit-data shard my_songs --output shards\n"
        "sepkit-data shard my_songs --output s3://bucket/my_songs --size 1000\n"
        "sepkit-train my_recipe.yaml data.root=s3://bucket/my_songs",
        "Addresses such as s3://, gs:// and https:// need fsspec: pip install 'sepkit[shards]'.",
    )
    parser.add_argument("source", metavar="ROOT", help="folder of songs")
    parser.add_argument("--output", metavar="DIR|ADDRESS", required=True, help="where shards and index.json go")
    parser.add_argument("--size", type=float, metavar="MB", default=1000.0, help="of a shard (default: 1000)")
    parser.set_defaults(job=_shard)


def _shard(options: argparse.Namespace) -> int:
    from sepkit.datasets.packing import write_shards

    index = write_shards(options.source, options.output, options.size, log=print_line)
    print(f"index      {index}")
    print(f"next       sepkit-train RECIPE data.root={options.output}")
    return 0
