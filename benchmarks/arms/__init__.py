"""One module per trainer: its `train(job, watch, **options)` builds the model and trains the job's steps."""
