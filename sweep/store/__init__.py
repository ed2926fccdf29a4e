"""What was computed: journal, artefacts, clean-up."""
