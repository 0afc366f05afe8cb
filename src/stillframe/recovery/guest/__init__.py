"""A throw-away virtual machine whose Linux kernel reads what no parser can.

It sees one volume through a copy-on-write view, has no network and no other device, and is emulated in
software, so nothing of the guest's file system ever meets this machine's kernel. It is trusted with nothing:
names, counts and sizes that come out of it are bounded here.
"""
