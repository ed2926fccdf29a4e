"""Mixtures of experts: a view of routed experts, the rules that route to them, and what runs inside
of one."""
