"""What several tests share, in one room for each part of the system that it starts or stands for."""
