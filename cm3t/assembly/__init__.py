"""What `cm3t.model` is put together from: attached plugins, modalities, stages of training, files, the summary."""
