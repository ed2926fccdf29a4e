"""What the user wrote, checked: YAML to `Sweep`, all faults at once."""
