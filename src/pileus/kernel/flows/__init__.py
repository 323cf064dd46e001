"""Durable flows: small idempotent steps with undo, recorded before and after, in the service's own database."""

from pileus.kernel.flows.model import Abort, Flow, LostLease, Retry, Run, Step, Wait
from pileus.kernel.flows.runner import Runner, run_all
from pileus.kernel.flows.starter import FlowStarter
from pileus.kernel.flows.store import tables

__all__ = ["Abort", "Flow", "FlowStarter", "LostLease", "Retry", "Run", "Runner", "Step", "Wait", "run_all", "tables"]
