"""An index in step with a folder of photos: what is known of each photo's file, and what has changed since."""
