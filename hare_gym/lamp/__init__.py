"""LaMP: personalised questions with a profile each, from the published files or generated in the same format."""
