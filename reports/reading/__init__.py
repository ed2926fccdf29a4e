"""A run folder as values: the table, the plan, tasks in time, a study, the command."""
