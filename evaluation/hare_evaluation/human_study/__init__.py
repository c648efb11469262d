"""A study with people: blinded sheets from recorded runs, a form to fill them in, the planned analysis, a dry run."""
