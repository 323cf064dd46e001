"""Policy in oslo.policy's language, compiled to closures."""

from pileus.kernel.policy.engine import Policy
from pileus.kernel.policy.language import PolicySyntaxError, compile_rule

__all__ = ["Policy", "PolicySyntaxError", "compile_rule"]
