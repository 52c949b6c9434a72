"""The stand-in for Slack's servers (Web API and Socket Mode): the demo and the tests use this one.

State lives in memory and ends with the process. It needs no Slack package. What it can't know it
takes from docs.slack.dev, and says where that is silent.
"""

from daemon.demo.slack.deliveries import Delivering
from daemon.demo.slack.faults import Fault
from daemon.demo.slack.journal import Entry
from daemon.demo.slack.people import Post, Said
from daemon.demo.slack.server import StandInSlack

__all__ = ["Delivering", "Entry", "Fault", "Post", "Said", "StandInSlack"]
