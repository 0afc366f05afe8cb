"""qcow2: QEMU's own format, read after its specification (``docs/interop/qcow2.txt``), written by qemu-img.

Standalone images only: backing files and external data files are refused and never opened.
"""

from stillframe.disk.qcow2.disk import Qcow2Disk, open_qcow2
from stillframe.disk.qcow2.header import MAGIC
from stillframe.disk.qcow2.writer import Qcow2Target

__all__ = ["MAGIC", "Qcow2Disk", "Qcow2Target", "open_qcow2"]
