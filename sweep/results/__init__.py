"""From finished tasks to the table and files of a run folder."""
