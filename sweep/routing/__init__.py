"""Tasks of mixtures of experts: a rule chooses experts, and what that costs is kept."""
