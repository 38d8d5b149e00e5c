"""What is minimised: maps, patches, losses, optimizers and the train step; pure."""
