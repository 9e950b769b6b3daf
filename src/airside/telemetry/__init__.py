"""What the agent tells machines about itself: metrics, health, events sent elsewhere."""
