"""VHDX, Hyper-V's disk format, after [MS-VHDX]: reading with log replay and chains, and writing."""

from stillframe.disk.vhdx.disk import VhdxDisk, open_vhdx
from stillframe.disk.vhdx.info import DiskKind, VhdxInfo
from stillframe.disk.vhdx.writer import VhdxTarget, create_vhdx

__all__ = ["DiskKind", "VhdxDisk", "VhdxInfo", "VhdxTarget", "create_vhdx", "open_vhdx"]
