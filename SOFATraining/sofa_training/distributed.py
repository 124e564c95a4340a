"""One process or many: what torchrun says of this one, and the few things that processes tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from sofa_engine.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Process:
    """The place of a process among those of its run.

    Attributes:
        rank: 0 to world - 1; 0 writes files and speaks to the user.
        world: number of processes.
        device: where it computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over processes of a tensor, the same in all of them."""
        return self.total(values) / self.world

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over processes of a tensor, the same in all of them."""
        if self.world == 1:
            return values
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def gathered(self, item: T) -> list[T]:
        """Return every process's item, in the order of ranks."""
        if self.world == 1:
            return [item]
        items: list[T | None] = [None] * self.world
        distributed.all_gather_object(items, item)
        return items  # type: ignore[return-value]


@contextmanager
def join_processes(device: str) -> Iterator[Process]:
    """Join the other processes that torchrun started, and leave them at the end; a lone process joins nothing.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N"; under torchrun every process takes the GPU of its local rank.

    Raises:
        InputError: CUDA was asked for and is not there.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")), world)
    if world > 1:
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", rank=rank, world_size=world)
    try:
        yield Process(rank, world, chosen)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def _device(name: str, local_rank: int, world: int) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if name.startswith("cuda"):
        if not available:
            raise InputError("run.device asks for a GPU, and CUDA is not available here; use 'auto' or 'cpu'.")
        if name == "cuda" or world > 1:
            name = f"cuda:{local_rank % torch.cuda.device_count()}"
        torch.cuda.set_device(name)
    return torch.device(name)
