"""`sepkit-data preview`: training examples as the network gets them."""

import argparse

from sepkit.cli._command import add_command, pick, print_line


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "preview",
        "Write training examples of a recipe to a page, to hear and see what the network gets.",
        "sepkit-data preview vocals\nsepkit-data preview my_recipe.yaml data.remix=0.5 --examples 20",
        "Examples are drawn, augmented and mixed as in training: the first of an epoch, those of its seed.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a recipe that comes with sepkit")
    parser.add_argument(
        "overrides", metavar="KEY.SUB=VALUE", nargs="*", default=[], help="values that replace the recipe's"
    )
    parser.add_argument("--data", metavar="ROOT", help="folder of songs that replaces the recipe's data.root")
    parser.add_argument("--output", metavar="FILE", default="preview.html", help="the page (default: preview.html)")
    parser.add_argument("--examples", type=int, metavar="N", default=10, help="how many (default: 10)")
    parser.add_argument("--epoch", type=int, metavar="N", default=1, help="of this epoch (default: the first, 1)")
    parser.set_defaults(job=_preview)


def _preview(options: argparse.Namespace) -> int:
    from sepkit.training.preview import preview

    page = preview(**pick(options, "recipe", "overrides", "data", "output", "examples", "epoch"), log=print_line)
    print(f"page       {page}")
    return 0
