"""What the page does: between its state and `SOFASegmentLib`."""
