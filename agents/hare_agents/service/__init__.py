"""HARE behind HTTP: what it knows outlives the process. ``hare serve`` starts it; `app.create_app` is the app."""
