"""What `aipo-lab assets list` shows."""

from __future__ import annotations

from rich.console import Console


def show_assets() -> None:
    """Print the assets and where they are."""
    from aipo_lab.assets.library import list_assets

    console = Console()
    for asset in list_assets():
        here = str(asset.path) if asset.present else f"not yet; obtain it with: aipo-lab assets fetch {asset.name}"
        console.print(f"[bold]{asset.name}[/bold]  {asset.size_bytes / 1e6:.0f} MB, {asset.licence}", highlight=False)
        for name, text in (("what", asset.description), ("from", asset.source), ("here", here)):
            console.print(f"  {name}  {text}", highlight=False, soft_wrap=True)
