"""How a report is written: Markdown, HTML, LaTeX, JSON, figures and their words."""
