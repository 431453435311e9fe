"""The devices a recipe's stages are divided among: those it names, else those this machine has."""

from __future__ import annotations

from aipo_lab.core.devices import Device, find_devices
from aipo_lab.pipeline.recipe import ComputeConfig


def recipe_devices(compute: ComputeConfig) -> tuple[Device, ...]:
    """The devices; none for a recipe that computes on the processor and names none, or that names what is not here.

    `compute.device: cuda:1` is the second one alone. Devices that `compute.devices` names are taken at its word; with
    `compute.device: cpu` they are only divided, which rehearses a placement without them.
    """
    on_cuda = compute.device.startswith("cuda")
    if compute.devices != "auto":
        known = {device.name: device for device in find_devices()} if on_cuda else {}
        return tuple(known.get(name, Device(name)) for name in compute.devices)
    if not on_cuda:
        return ()
    found = find_devices()
    number = compute.device.partition(":")[2]
    if not number:
        return found
    return found[int(number) : int(number) + 1] if number.isdigit() else ()
