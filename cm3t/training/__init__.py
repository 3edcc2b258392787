"""What a run is made of: its clips, its task, the loop, its steps, and the controls that it is scored under."""
