"""Opens archives below their watched directory (ADR 0027). Blocking; thread-safe.

Whoever may write into a watched directory chooses what lies there, while the agent may read more
than they may. What always holds:

- a path is opened once, and all that is read or said of it comes from that descriptor;
- only regular files and directories are opened, never a device, a named pipe or a file of `/proc`;
- a symbolic link that leads out of the directory is followed only as the setting `links` allows;
- a refusal says the path below the directory, the rule and the setting: nothing of the target.
"""

from airside.archive.beneath.acting import Credentials, can_act
from airside.archive.beneath.directory import ANYWHERE, Beneath
from airside.archive.beneath.walk import Opened

__all__ = ["ANYWHERE", "Beneath", "Credentials", "Opened", "can_act"]
