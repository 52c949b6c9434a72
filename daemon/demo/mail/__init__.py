"""The stand-in for a mail provider: pymap serves the mailboxes over IMAP, aiosmtpd takes mail in.

On loopback, without TLS, in memory. Both packages are in the extra `demo`; only `server.py` and
what it needs import them.
"""

from daemon.demo.mail.letters import Letter
from daemon.demo.mail.server import StandInMail

__all__ = ["Letter", "StandInMail"]
